"""An nnx module as pure functions.

A module is taken apart once, abstractly: its graph per mode, and the paths of its variables.
`init` and `apply` then move plain nested dicts of arrays in and out of that graph. Random number
streams never enter the state: every pass seeds them from its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.extend.core import get_opaque_trace_state

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, measured
from tlx.backbones.wrapping import (
    MOVES,
    WHOLE,
    Switches,
    by_name,
    checked,
    leaf_info,
    leaf_infos,
    nested,
    switched,
    switches,
    unmeasured,
)
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import Inputs
from tlx.errors import ContractError
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables
from tlx_flax.visible import Visible, fitting, hidden_as_zero

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
    inputs: Inputs,
    *,
    options: Mapping[str, Any] = _NONE,
    stages: tuple[str, ...] = (),
    modes: Mapping[Mode, Mapping[str, Any]] = MODES,
    dialects: tuple[Dialect, ...] = (),
    cell: int | None = None,
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> NnxBackbone:
    """The module that `build(**options, rngs=rngs)` makes (its class will do) as a Backbone; see
    `NnxBackbone` for what it must do.

    `features` names what it returns, shallow to deep; kind, channels and stride are measured.
    `modes` says for each mode which attributes are set on all submodules that have them; leave
    out a mode that the module cannot tell apart. `leaves` says what cannot be seen of a parameter,
    by globs over leaf paths: its `kind`, which axes of a kernel count outputs (`out`) and which
    count `layers`. The module is traced in each mode. Raises ContractError where it does not run
    or returns something else than `features`."""
    pairs = tuple(sorted(options.items()))
    how = switches(modes)
    one = NnxBackbone(
        build, unmeasured(features), inputs, pairs, stages, how, dialects, cell, leaf_words(leaves)
    )
    return replace(one, features=measured(one, Subject("nnx module", build, _advice)))


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
    """Any nnx module as a Backbone that is `Staged`, `Traced`, `Maskable` and knows `ForeignNames`.

    `build(**options, rngs=rngs)` makes the module. It is a class or a function at module level
    and the options are hashable, so that equal backbones compare equal. Without `stage_names` the
    module is one stage, `all`, and called with (B,H,W,C) it returns a mapping of features, or an
    array that is the only one. With them it has a method `stage(name, carry) -> (carry,
    features)`, and the variables of a stage live below an attribute with the stage's name.
    Parameters are its `nnx.Param`; all other variables but random streams are state. `dialects`
    are the tables of names in files of other libraries; without one a name in a file is a leaf
    path already. With a `cell` the network can be masked: the module's call, or `stage`, takes one
    argument more, a `tlx_flax.visible.Visible`, and does with it what `Maskable` demands. Without
    `words` its leaves are what their names say, and the network is not traced for them. `fitting`
    gives the options that depend on what inputs have learnt of data (`FitsBackbone`)."""

    build: Callable[..., nnx.Module]
    features: tuple[FeatureSpec, ...]
    inputs: Inputs
    options: tuple[tuple[str, Any], ...] = ()
    stage_names: tuple[str, ...] = ()
    attributes: Switches = _FLAX
    dialects: tuple[Dialect, ...] = ()
    cell: int | None = None
    words: Words | None = None
    fitting: Callable[[Inputs], Mapping[str, Any]] | None = None

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes for which `attributes` has an entry."""
        return frozenset(mode for mode, _ in self.attributes)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    def for_inputs(self, inputs: Inputs) -> NnxBackbone:
        """With the options that inputs decide which are fitted."""
        if self.fitting is None:
            return self
        options = dict(self.options) | dict(self.fitting(inputs))
        return replace(self, options=tuple(sorted(options.items())))

    def _built(self, rngs: nnx.Rngs) -> nnx.Module:
        return self.build(**dict(self.options), rngs=rngs)

    @cached_property
    def _parts(self) -> _Parts:
        return _apart(self)

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        infos = leaf_infos(map(_name, self._parts.params), self.stages)
        return infos if self.words is None else leaves_in_use(self, infos, self.words)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables; nnx modules know their shapes, so `x` is not looked at."""
        variables = _variables(self._built(nnx.Rngs(rng)))
        params, state, _ = _kinds(variables)
        return Variables(_values(variables, params), _values(variables, state))

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of `x` (B,H,W,C), and the state after the pass."""
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=len(self.stages), rng=rng, mode=mode
        )
        return checked(features, self.features), state

    def apply_visible(
        self,
        params: Params,
        state: State,
        x: Array,
        visible: Array,
        *,
        count: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[Features, State]:
        """All features of the visible cells of `x` (B,H,W,C), and the state after the pass.

        Raises ContractError for a network that cannot be masked, DataError for a mask that does
        not fit the pictures."""
        if self.cell is None:
            raise ContractError(
                f"{self.build.__name__} cannot be masked layer by layer. Hide parts of the input "
                f"picture instead."
            )
        seen = fitting(Visible(visible, count), x, self.cell)
        module = self._module(params, state, rng, mode)
        # First of all, so that not even a hidden NaN reaches a gradient.
        _, features = self._run(module, hidden_as_zero(x, seen), 0, len(self.stages), seen)
        return checked(features, self.features), self._state(module, state, mode)

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
        carry, features = self._run(module, carry, start, stop)
        return carry, features, self._state(module, state, mode)

    def _state(self, module: Any, before: State, mode: Mode) -> State:
        return _values(_variables(module), self._parts.state) if mode in MOVES else before

    def trace(self, params: Params, state: State, x: Array) -> dict[str, Array]:
        """What every submodule returns for `x`, by its path, in the order in which they end."""
        module = self._module(params, state, jax.random.key(0), "eval")
        outputs: dict[str, Array] = {}
        _write_down(module, outputs)
        self._run(module, x, 0, len(self.stages))
        return outputs

    def _run(
        self, module: Any, carry: Any, start: int, stop: int, *visible: Visible
    ) -> tuple[Any, Features]:
        features: dict[str, Array] = {}
        for name in self.stages[start:stop]:
            if self.stage_names:
                carry, new = module.stage(name, carry, *visible)
            else:
                new = carry = by_name(module(carry, *visible), self.features)
            features |= new
        return carry, features

    def _module(self, params: Params, state: State, rng: Array, mode: Mode) -> Any:
        switched(self.attributes, mode)
        parts = self._parts
        leaves = trees.flat(params) | trees.flat(state)
        values = {path: leaves[_name(path)] for path in (*parts.params, *parts.state)}
        for number, path in enumerate(parts.random):
            values[path] = _seed(parts.variables[path], jax.random.fold_in(rng, number))
        flat = {path: parts.variables[path].replace(value) for path, value in values.items()}
        return nnx.merge(parts.graph[mode], nnx.from_flat_state(flat))


def _advice(error: Exception, mode: Mode | None) -> str:
    if mode is None and "rngs" in str(error):
        return "It is made as build(**options, rngs=rngs): let it take rngs, and the options."
    if isinstance(error, TypeError) and "argument" in str(error):
        return (
            "An nnx module is called with the picture alone. What tells the modes apart are "
            "attributes of its layers, such as deterministic and use_running_average, which "
            "`modes` may name otherwise."
        )
    return ""


def _write_down(module: nnx.Module, outputs: dict[str, Array]) -> None:
    """Have every submodule write down what it returns, below its path.

    nnx has no hooks, and `nnx.capture` forgets the order and changes classes that others share;
    here the instances, which serve one pass, change to a class of their own. Layers in a stack,
    which have many answers, write nothing."""
    paths: dict[int, str] = {}
    outside = get_opaque_trace_state(convention="flax")

    @cache
    def writing(kind: Any) -> type:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = kind.__call__(self, *args, **kwargs)
            here = get_opaque_trace_state(convention="flax") == outside
            if here and id(self) in paths and isinstance(output, Array):
                outputs[paths[id(self)]] = output
            return output

        return type(kind.__name__, (kind,), {"__call__": call})

    for path, part in nnx.iter_modules(module):
        if path and callable(part):
            paths[id(part)] = _name(path)
            object.__setattr__(part, "__class__", writing(type(part)))


def _seed(variable: nnx.Variable[Any], key: Array) -> Array:
    """A random stream at its start: a key of its own, or a counter at zero."""
    like = variable.get_value()
    if isinstance(variable, nnx.RngKey):
        return jax.random.split(key, like.shape) if like.shape else key
    return jnp.zeros(like.shape, like.dtype)


def _name(path: Path) -> str:
    return "/".join(map(str, path))


@lru_cache(maxsize=4)
def _apart(backbone: NnxBackbone) -> _Parts:
    """Abstract: no array is made and nothing is compiled. Once for all equal ones of a study."""
    module = nnx.eval_shape(lambda: backbone._built(nnx.Rngs(0)))
    graph = {}
    for mode, values in backbone.attributes:
        module.set_attributes(raise_if_not_found=False, **dict(values))
        graph[mode] = nnx.graphdef(module)
    variables = _variables(module)
    return _Parts(graph, variables, *_kinds(variables))


def _variables(module: nnx.Module) -> dict[Path, nnx.Variable[Any]]:
    return dict(nnx.to_flat_state(nnx.state(module)))


def _kinds(variables: Mapping[Path, Any]) -> tuple[tuple[Path, ...], ...]:
    """Where parameters, state and random streams live."""
    params = tuple(p for p, v in variables.items() if isinstance(v, nnx.Param))
    random = tuple(p for p, v in variables.items() if isinstance(v, nnx.RngState))
    return params, tuple(p for p in variables if p not in {*params, *random}), random


def _values(variables: Mapping[Path, nnx.Variable[Any]], paths: tuple[Path, ...]) -> dict[str, Any]:
    """Nested dicts of arrays. Keys are strings: lists of layers have numbers."""
    return nested({_name(path): variables[path].get_value() for path in paths})
