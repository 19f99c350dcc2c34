"""An nnx module as pure functions.

A module is taken apart once, abstractly: its graph per mode, and the paths of its variables.
`init` and `apply` then move plain nested dicts of arrays in and out of that graph. Random number
streams never enter the state: every pass seeds them from its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, final

import jax
from flax import nnx
from jax import Array

from tlx.errors import ContractError, did_you_mean, listed
from tlx.types import Features, FeatureSpec, InputSpec, LeafInfo, Mode, Params, State, Variables
from tlx_flax.features import checked
from tlx_flax.leaf_kind import leaf_kind

Attributes: TypeAlias = tuple[tuple[Mode, tuple[tuple[str, Any], ...]], ...]
"""For each mode the attributes that it sets on every submodule that has them; a tuple of pairs,
so that it hashes."""

MODES: Attributes = (
    ("train", (("deterministic", False), ("use_running_average", False))),
    ("tune", (("deterministic", False), ("use_running_average", True))),
    ("eval", (("deterministic", True), ("use_running_average", True))),
)
WHOLE = "all"
"""The one stage of a module that does not run in pieces."""

Path: TypeAlias = tuple[Any, ...]


class _Parts(NamedTuple):
    """An abstract module taken apart. `graph` per mode; paths of variables by where they live."""

    graph: Mapping[Mode, Any]
    variables: Mapping[Path, nnx.Variable]
    params: tuple[Path, ...]
    state: tuple[Path, ...]
    random: tuple[Path, ...]


@final
@dataclass(frozen=True)
class NnxBackbone:
    """Any nnx module as a Backbone that is `Staged` and knows `ForeignNames`.

    `build(rngs)` makes the module and must always make the same structure; give it a comparable
    value (a function at module level, a frozen dataclass) so that equal backbones compare equal.
    Without `stage_names` the module is one stage, `all`, and calling it with (B,H,W,C) returns a
    mapping of features, or one array for a single feature. With them it has a method
    `stage(name, carry) -> (carry, features)`, and the variables of a stage live below an
    attribute of the stage's name. `foreign` is the table of foreign names; without one a name in
    a file is a leaf path already."""

    build: Callable[[nnx.Rngs], nnx.Module]
    features: tuple[FeatureSpec, ...]
    inputs: InputSpec
    stage_names: tuple[str, ...] = ()
    attributes: Attributes = MODES
    foreign: Callable[[str], str | None] | None = None

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes for which `attributes` has an entry."""
        return frozenset(mode for mode, _ in self.attributes)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    @cached_property
    def _parts(self) -> _Parts:
        # Abstract: no array is made and nothing is compiled.
        module = nnx.eval_shape(lambda: self.build(nnx.Rngs(0)))
        graph = {}
        for mode, attributes in self.attributes:
            module.set_attributes(raise_if_not_found=False, **dict(attributes))
            graph[mode] = nnx.graphdef(module)
        variables = dict(nnx.to_flat_state(nnx.state(module)))
        kinds = {
            path: "random"
            if isinstance(variable, nnx.RngState)
            else "params"
            if isinstance(variable, nnx.Param)
            else "state"
            for path, variable in variables.items()
        }
        by = {
            kind: tuple(path for path in variables if kinds[path] == kind)
            for kind in ("params", "state", "random")
        }
        return _Parts(graph, variables, **by)

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        paths = ["/".join(map(str, path)) for path in self._parts.params]
        return {path: LeafInfo(self._stage(path), leaf_kind(path, paths)) for path in paths}

    def _stage(self, path: str) -> str:
        if not self.stage_names:
            return WHOLE
        stage = path.split("/", 1)[0]
        if stage in self.stage_names:
            return stage
        raise ContractError(
            f"The parameter {path!r} belongs to no stage: its first part must be one of "
            f"{listed(self.stage_names)}."
        )

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        if path not in self._leaves:
            raise ContractError(
                f"The backbone has no parameter {path!r}.{did_you_mean(path, self._leaves)}"
            )
        return self._leaves[path]

    def foreign_name(self, name: str) -> str | None:
        """The leaf path for a name in somebody's file; None where it is not for this network."""
        return name if self.foreign is None else self.foreign(name)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables; nnx modules know their shapes, so `x` is not looked at."""
        flat = dict(nnx.to_flat_state(nnx.state(self.build(nnx.Rngs(rng)))))
        parts = self._parts
        return Variables(
            _nested({path: flat[path].get_value() for path in parts.params}),
            _nested({path: flat[path].get_value() for path in parts.state}),
        )

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of `x` (B,H,W,C), and the state after the pass."""
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=len(self.stages), rng=rng, mode=mode
        )
        return checked(features, self.features), state

    def apply_stages(
        self,
        params: Params,
        state: State,
        carry: Any,
        *,
        start: int,
        stop: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[Any, Features, State]:
        """Stages `start` to `stop`. The key of a dropout layer does not depend on them."""
        module = self._module(params, state, rng, mode)
        features: Features = {}
        for name in self.stages[start:stop]:
            if self.stage_names:
                carry, new = module.stage(name, carry)
            else:
                new = carry = _mapping(module(carry), self.features)
            features = {**features, **new}
        return carry, features, self._state(module) if mode == "train" else state

    def _module(self, params: Params, state: State, rng: Array, mode: Mode) -> Any:
        parts = self._parts
        if mode not in parts.graph:
            raise ContractError(
                f"The backbone cannot run in mode {mode!r}; it has {listed(sorted(self.modes))}."
            )
        values = {path: _at(params, path) for path in parts.params}
        values |= {path: _at(state, path) for path in parts.state}
        values |= {
            path: _seed(parts.variables[path], jax.random.fold_in(rng, number))
            for number, path in enumerate(parts.random)
        }
        flat = {path: parts.variables[path].replace(value) for path, value in values.items()}
        return nnx.merge(parts.graph[mode], nnx.from_flat_state(flat))

    def _state(self, module: Any) -> State:
        flat = dict(nnx.to_flat_state(nnx.state(module)))
        return _nested({path: flat[path].get_value() for path in self._parts.state})


def _seed(variable: nnx.Variable, key: Array) -> Array:
    """A random stream at its start: the key itself, or a counter at zero."""
    shape, dtype = variable.get_value().shape, variable.get_value().dtype
    if isinstance(variable, nnx.RngKey):
        return jax.random.split(key, shape) if shape else key
    return jax.numpy.zeros(shape, dtype)


def _mapping(output: Any, specs: tuple[FeatureSpec, ...]) -> Features:
    """What the module returned, by feature name."""
    return output if isinstance(output, Mapping) else {specs[0].name: output}


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[str(key)]
    return tree


def _nested(flat: Mapping[Path, Any]) -> dict[str, Any]:
    """Nested dicts with string keys: lists of layers have numbers in their paths."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(str(key), {})
        node[str(path[-1])] = value
    return tree
