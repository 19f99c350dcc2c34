"""An nnx module as pure functions.

A module is taken apart once, abstractly: its graph per mode, and the paths of its variables.
`init` and `apply` then move plain nested dicts of arrays in and out of that graph. Random number
streams never enter the state: every pass seeds them from its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tlx.types import Features, FeatureSpec, InputSpec, LeafInfo, Mode, Params, State, Variables
from tlx_flax.features import by_name, checked, measured, unmeasured
from tlx_flax.leaves import WHOLE, leaf_info, leaf_infos
from tlx_flax.switches import Switches, switched, switches

MODES: Mapping[Mode, Mapping[str, Any]] = {
    "train": {"deterministic": False, "use_running_average": False},
    "tune": {"deterministic": False, "use_running_average": True},
    "eval": {"deterministic": True, "use_running_average": True},
}
"""The attributes that Flax's own dropout and batch norm go by."""
_FLAX = switches(MODES)
_NONE: Mapping[str, Any] = {}

Path: TypeAlias = tuple[Any, ...]


def wrap_nnx(
    build: Callable[..., nnx.Module],
    features: tuple[str, ...],
    inputs: InputSpec,
    *,
    options: Mapping[str, Any] = _NONE,
    stages: tuple[str, ...] = (),
    modes: Mapping[Mode, Mapping[str, Any]] = MODES,
    foreign: Callable[[str], str | None] | None = None,
) -> NnxBackbone:
    """The module that `build(**options, rngs=rngs)` makes (its class will do) as a Backbone; see
    `NnxBackbone` for what it must do.

    `features` names what it returns, shallow to deep; kind, channels and stride are measured.
    `modes` says for each mode which attributes are set on all submodules that have them; leave
    out a mode that the module cannot tell apart. Raises ContractError where the module returns
    something else than `features`."""
    pairs = tuple(sorted(options.items()))
    one = NnxBackbone(build, unmeasured(features), inputs, pairs, stages, switches(modes), foreign)
    return replace(one, features=measured(one))


class _Parts(NamedTuple):
    """An abstract module taken apart: its graph per mode, and its variables by where they live."""

    graph: Mapping[str, nnx.GraphDef[nnx.Module]]
    variables: Mapping[Path, nnx.Variable[Any]]
    params: tuple[Path, ...]
    state: tuple[Path, ...]
    random: tuple[Path, ...]


@final
@dataclass(frozen=True)
class NnxBackbone:
    """Any nnx module as a Backbone that is `Staged` and knows `ForeignNames`.

    `build(**options, rngs=rngs)` makes the module. It is a class or a function at module level
    and the options are hashable, so that equal backbones compare equal. Without `stage_names` the
    module is one stage, `all`, and called with (B,H,W,C) it returns a mapping of features, or an
    array that is the only one. With them it has a method `stage(name, carry) -> (carry,
    features)`, and the variables of a stage live below an attribute with the stage's name.
    Parameters are its `nnx.Param`; all other variables but random streams are state. `foreign` is
    the table of foreign names; without one a name in a file is a leaf path already."""

    build: Callable[..., nnx.Module]
    features: tuple[FeatureSpec, ...]
    inputs: InputSpec
    options: tuple[tuple[str, Any], ...] = ()
    stage_names: tuple[str, ...] = ()
    attributes: Switches = _FLAX
    foreign: Callable[[str], str | None] | None = None

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes for which `attributes` has an entry."""
        return frozenset(mode for mode, _ in self.attributes)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    def _built(self, rngs: nnx.Rngs) -> nnx.Module:
        return self.build(**dict(self.options), rngs=rngs)

    @cached_property
    def _parts(self) -> _Parts:
        # Abstract: no array is made and nothing is compiled.
        module = nnx.eval_shape(lambda: self._built(nnx.Rngs(0)))
        graph = {}
        for mode, values in self.attributes:
            module.set_attributes(raise_if_not_found=False, **dict(values))
            graph[mode] = nnx.graphdef(module)
        variables = dict(nnx.to_flat_state(nnx.state(module)))
        params = tuple(p for p, v in variables.items() if isinstance(v, nnx.Param))
        random = tuple(p for p, v in variables.items() if isinstance(v, nnx.RngState))
        state = tuple(p for p in variables if p not in {*params, *random})
        return _Parts(graph, variables, params, state, random)

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        return leaf_infos(("/".join(map(str, path)) for path in self._parts.params), self.stages)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def foreign_name(self, name: str) -> str | None:
        """The leaf path for a name in somebody's file; None where it is not for this network."""
        return name if self.foreign is None else self.foreign(name)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables; nnx modules know their shapes, so `x` is not looked at."""
        module, parts = self._built(nnx.Rngs(rng)), self._parts
        return Variables(_values(module, parts.params), _values(module, parts.state))

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
        features: dict[str, Array] = {}
        for name in self.stages[start:stop]:
            if self.stage_names:
                carry, new = module.stage(name, carry)
            else:
                new = carry = by_name(module(carry), self.features)
            features |= new
        return carry, features, _values(module, self._parts.state) if mode == "train" else state

    def _module(self, params: Params, state: State, rng: Array, mode: Mode) -> Any:
        switched(self.attributes, mode)
        parts = self._parts
        values = {path: _at(params, path) for path in parts.params}
        values |= {path: _at(state, path) for path in parts.state}
        for number, path in enumerate(parts.random):
            values[path] = _seed(parts.variables[path], jax.random.fold_in(rng, number))
        flat = {path: parts.variables[path].replace(value) for path, value in values.items()}
        return nnx.merge(parts.graph[mode], nnx.from_flat_state(flat))


def _seed(variable: nnx.Variable[Any], key: Array) -> Array:
    """A random stream at its start: a key of its own, or a counter at zero."""
    like = variable.get_value()
    if isinstance(variable, nnx.RngKey):
        return jax.random.split(key, like.shape) if like.shape else key
    return jnp.zeros(like.shape, like.dtype)


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[str(key)]
    return tree


def _values(module: nnx.Module, paths: tuple[Path, ...]) -> dict[str, Any]:
    """Nested dicts of a module's arrays. Keys are strings: lists of layers have numbers."""
    flat = dict(nnx.to_flat_state(nnx.state(module)))
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for key in path[:-1]:
            node = node.setdefault(str(key), {})
        node[str(path[-1])] = flat[path].get_value()
    return tree
