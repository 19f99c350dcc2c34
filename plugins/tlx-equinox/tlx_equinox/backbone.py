"""An Equinox module as pure functions.

A module is a tree, so its arrays are its variables and their place in the tree is their leaf path.
It is looked at once, abstractly; `init` and `apply` then move nested dicts of arrays in and out of
that tree. Equinox thinks of one example at a time: every pass is a `vmap` over the batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import isclass
from typing import Any, Literal, NamedTuple, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, measured, other_arguments
from tlx.backbones.wrapping import (
    WHOLE,
    by_name,
    checked,
    has_mode,
    leaf_info,
    leaf_infos,
    leaf_kind,
    nested,
    unmeasured,
)
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import Inputs
from tlx.types import (
    Features,
    FeatureSpec,
    LeafInfo,
    LeafKind,
    Mode,
    Params,
    PyTree,
    State,
    Variables,
)
from tlx_equinox.leaf_numbers import numbered

Types: TypeAlias = tuple[type, ...]

MODES: tuple[Mode, ...] = ("train", "tune", "eval")
BATCH_NORMS: Types = (eqx.nn.BatchNorm,)
NORMS: Types = (*BATCH_NORMS, eqx.nn.LayerNorm, eqx.nn.GroupNorm, eqx.nn.RMSNorm)
_INDEX: Types = (eqx.nn.StateIndex,)
_NONE: Mapping[str, Any] = {}


def wrap_equinox(
    build: Callable[..., Any],
    features: tuple[str, ...],
    inputs: Inputs,
    *,
    options: Mapping[str, Any] = _NONE,
    stages: tuple[str, ...] = (),
    channels: Literal["first", "last"] = "first",
    batch_norms: Types = BATCH_NORMS,
    axis_name: str = "batch",
    modes: tuple[Mode, ...] = MODES,
    dialects: tuple[Dialect, ...] = (),
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> EquinoxBackbone:
    """The module that `build(**options, key=key)` makes (its class will do) as a Backbone; see
    `EquinoxBackbone` for what it must do.

    `features` names what it returns, shallow to deep; kind, channels and stride are measured.
    `modes` are those that it can tell apart. `leaves` says what cannot be seen of a parameter, by
    globs over leaf paths: its `kind`, which axes of a kernel count outputs (`out`) and which count
    `layers`. The module is traced in each mode. Raises ContractError where it does not run or
    returns something else than `features`."""
    one = EquinoxBackbone(
        build,
        unmeasured(features),
        inputs,
        tuple(sorted(options.items())),
        stages,
        channels,
        batch_norms,
        axis_name,
        frozenset(modes),
        dialects,
        leaf_words(leaves),
    )

    def advice(error: Exception, mode: Mode | None) -> str:
        if axis := re.search(r"unbound axis name:?\s*['\"]?(\w+)", str(error)):
            return f'Say the axis that its batch norms were given: axis_name="{axis[1]}".'
        method = getattr(build, "stage" if stages else "__call__") if isclass(build) else None
        takes = {"key": True} if mode is None else other_arguments(method)
        if takes is None or "key" in takes:
            return ""
        return (
            "It is called as Equinox calls its own layers, module(x, key=key), or "
            "module(x, state, key=key) where it has state: let it take `*, key=None`."
        )

    found = measured(one, Subject("Equinox module", build, advice))
    return replace(one, features=found, dialects=(*dialects, *_numbers(one)))


def _numbers(backbone: EquinoxBackbone) -> tuple[Dialect, ...]:
    """What Equinox' own files call the leaves."""
    parts = backbone._parts
    return numbered(trees.flat(_bare(parts.module)), parts.params, _places(parts.module, _INDEX))


class _Parts(NamedTuple):
    """An abstract module taken apart. In `arrays` and `static` the value of a `StateIndex` stands
    in its place, and each has None where the other has something."""

    module: Any
    arrays: PyTree
    static: Mapping[Mode, PyTree]
    params: tuple[str, ...]
    state: tuple[str, ...]
    remembers: bool
    norms: frozenset[str]
    embeddings: frozenset[str]


@final
@dataclass(frozen=True)
class EquinoxBackbone:
    """Any Equinox module as a Backbone that is `Staged` and knows `ForeignNames`.

    `build(**options, key=key)` makes the module. It is a class or a function at module level and
    the options are hashable, so that equal backbones compare equal. Called as Equinox calls its
    own layers, `module(x, key=key)` for one example, it returns a mapping of features or an array
    that is the only one; with a `StateIndex` somewhere inside (batch norm has one) it is called
    with `module(x, state, key=key)` and returns the state as well. With `stage_names` it has a
    method `stage(name, carry, key=key)` or `stage(name, carry, state, key=key)` instead, which
    returns (carry, features) or (carry, features, state), and the layers of a stage live below an
    attribute with the stage's name.

    An example is (C,H,W), and so are the maps it returns, unless `channels` is 'last'. Modes are
    its `inference` flags: those of the layers of the types `batch_norms` are False in mode
    'train', those of all others in 'train' and 'tune'. `axis_name` is the batch axis that its
    batch norms were given. Parameters are its floating arrays; the values of its `StateIndex` and
    all other arrays are state."""

    build: Callable[..., Any]
    features: tuple[FeatureSpec, ...]
    inputs: Inputs
    options: tuple[tuple[str, Any], ...] = ()
    stage_names: tuple[str, ...] = ()
    channels: Literal["first", "last"] = "first"
    batch_norms: Types = BATCH_NORMS
    axis_name: str = "batch"
    modes: frozenset[Mode] = frozenset(MODES)
    dialects: tuple[Dialect, ...] = ()
    words: Words = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    def _built(self, key: Array) -> Any:
        return self.build(**dict(self.options), key=key)

    @cached_property
    def _parts(self) -> _Parts:
        # Abstract: no array is made and nothing is compiled.
        key = jax.eval_shape(lambda: jax.random.key(0))
        module = eqx.filter_eval_shape(self._built, key)
        arrays = eqx.filter(_bare(module), _is_array)
        learnt = trees.flat(eqx.filter(_changed(module, _INDEX, lambda _: None), _is_floating))
        static: dict[Mode, PyTree] = {}
        for mode in self.modes:
            told = eqx.nn.inference_mode(module, mode == "eval")
            told = _changed(
                told,
                self.batch_norms,
                lambda layer, mode=mode: eqx.nn.inference_mode(layer, mode != "train"),
            )
            static[mode] = eqx.filter(_bare(told), _is_array, inverse=True)
        return _Parts(
            module,
            arrays,
            static,
            tuple(learnt),
            tuple(path for path in trees.flat(arrays) if path not in learnt),
            bool(_places(module, _INDEX)),
            frozenset(_places(module, (*NORMS, *self.batch_norms))),
            frozenset(_places(module, (eqx.nn.Embedding,))),
        )

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        infos = leaf_infos(self._parts.params, self.stages, kind=self._kind, out=0)
        return leaves_in_use(self, infos, self.words)

    def _kind(self, path: str, every: Collection[str]) -> LeafKind:
        # Equinox calls everything `weight`, so the layer's type tells.
        layer = path.rpartition("/")[0]
        if layer in self._parts.norms:
            return "norm"
        return "embedding" if layer in self._parts.embeddings else leaf_kind(path, every)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables; Equinox modules know their shapes, so `x` is not looked at."""
        bare, parts = _bare(self._built(rng)), self._parts
        return Variables(_values(bare, parts.params), _values(bare, parts.state))

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
        parts = self._parts
        leaves = {**trees.flat(params), **trees.flat(state)}
        static = parts.static[has_mode(mode, self.modes)]
        bare = eqx.combine(trees.unflat(parts.arrays, leaves), static)
        module = jax.tree.map(_filled, parts.module, bare, is_leaf=_is_index)
        memory, module = eqx.nn.State(module), eqx.nn.delete_init_state(module)

        def one(carry: Any, memory: Any, key: Array, name: str) -> tuple[Any, Features, Any]:
            call = partial(module.stage, name) if self.stage_names else module
            output = call(carry, memory, key=key) if parts.remembers else call(carry, key=key)
            if parts.remembers:
                *output, memory = output
            elif not self.stage_names:
                output = (output,)
            new = by_name(output[-1], self.features)
            carry = output[0] if self.stage_names else new
            return carry, {name: self._from_first(value) for name, value in new.items()}, memory

        if start == 0 and self.channels == "first":
            carry = jnp.moveaxis(carry, -1, 1)
        features: dict[str, Array] = {}
        for number in range(start, stop):
            size = len(jax.tree.leaves(carry)[0])
            keys = jax.random.split(jax.random.fold_in(rng, number), size)
            carry, new, memory = jax.vmap(
                partial(one, name=self.stages[number]),
                in_axes=(0, None, 0),
                out_axes=(0, 0, None),
                axis_name=self.axis_name,
            )(carry, memory, keys)
            features |= new
        if mode == "train":
            state = _values(_changed(module, _INDEX, memory.get), parts.state)
        return carry, features, state

    def _from_first(self, value: Array) -> Array:
        """An example's feature with the channels last."""
        return jnp.moveaxis(value, 0, -1) if self.channels == "first" and value.ndim == 3 else value


def _is_index(node: Any) -> bool:
    return isinstance(node, _INDEX)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_floating(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _changed(module: Any, kinds: Types, change: Callable[[Any], Any]) -> Any:
    """The module with its layers of these types replaced."""
    return jax.tree.map(
        lambda node: change(node) if isinstance(node, kinds) else node,
        module,
        is_leaf=lambda node: isinstance(node, kinds),
    )


def _bare(module: Any) -> Any:
    """The module with the initial value of each `StateIndex` in its place."""
    return _changed(module, _INDEX, lambda index: index.init)


def _filled(node: Any, value: Any) -> Any:
    """The way back: a `StateIndex` whose initial value is `value`; else `value` itself."""
    return eqx.tree_at(lambda index: index.init, node, value) if _is_index(node) else value


def _places(module: Any, kinds: Types) -> list[str]:
    """The paths of the layers of these types."""
    nodes = jax.tree_util.tree_leaves_with_path(module, is_leaf=lambda n: isinstance(n, kinds))
    return [trees.path_of(keys) for keys, node in nodes if isinstance(node, kinds)]


def _values(bare: Any, paths: tuple[str, ...]) -> dict[str, Any]:
    """Nested dicts of a bare module's arrays."""
    leaves = trees.flat(bare)
    return nested({path: leaves[path] for path in paths})
