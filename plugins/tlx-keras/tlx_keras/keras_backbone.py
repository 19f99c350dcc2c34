"""A Keras model as pure functions.

Keras keeps its numbers in variables; `keras.StatelessScope` lends them values for one pass and
collects what the pass assigned. Parameters are the trainable variables, state the others. Random
streams are variables for Keras, but never enter the state: every pass seeds them from its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import jax
from jax import Array
from tlx_image import ImageInput

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, measured
from tlx.backbones.wrapping import (
    WHOLE,
    by_name,
    checked,
    has_mode,
    leaf_info,
    leaf_infos,
    nested,
    unmeasured,
)
from tlx.contracts.dialect import Dialect
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables
from tlx_keras.names import keras_names
from tlx_keras.on_jax import keras
from tlx_keras.structure import Structure, structure

_NONE: Mapping[str, Any] = {}


def wrap_keras(
    build: Callable[..., Any],
    features: tuple[str, ...],
    inputs: ImageInput,
    *,
    options: Mapping[str, Any] = _NONE,
    stages: tuple[str, ...] = (),
    dialects: tuple[Dialect, ...] = (),
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> KerasBackbone:
    """The model that `build(**options)` makes (its class will do) as a Backbone; see
    `KerasBackbone` for what it must do.

    `features` names its outputs or, in a Functional or Sequential model, layers, shallow to deep;
    kind, channels and stride are measured. `leaves` says what cannot be seen of a parameter, by
    globs over leaf paths: its `kind`, which axes of a kernel count outputs (`out`) and which count
    `layers`. The model is traced in each mode. Raises ContractError where it does not run, or has
    no such output or layer."""
    pairs, words = tuple(sorted(options.items())), leaf_words(leaves)
    one = KerasBackbone(build, unmeasured(features), inputs, pairs, stages, dialects, words)
    return replace(one, features=measured(one, Subject("Keras model", build)))


@final
@dataclass(frozen=True)
class KerasBackbone:
    """Any Keras model as a Backbone that is `Staged` and knows `ForeignNames`.

    `build(**options)` makes the model. It is a class or a function at module level and the
    options are hashable, so that equal backbones compare equal. A Functional or Sequential model
    can be cut: `stage_names` are features through which everything flows, and a stage ends with
    the feature of its name. Any other model, called with (B,H,W,C), returns a mapping of features
    or an array that is the only one, and is one stage, `all`.

    Leaf paths are Keras' own, such as `conv1/kernel`. Initial values follow the key where the
    initializer is one of Keras'; a model that was loaded starts from its own numbers. `tune` holds
    the statistics of batch norms; a model with other running state does not have that mode.
    Losses, regularizers and constraints that layers carry are not applied."""

    build: Callable[..., Any]
    features: tuple[FeatureSpec, ...]
    inputs: ImageInput
    options: tuple[tuple[str, Any], ...] = ()
    stage_names: tuple[str, ...] = ()
    foreign: tuple[Dialect, ...] = ()
    words: Words = ()

    @property
    def modes(self) -> frozenset[Mode]:
        """All three, or without 'tune' where running state is not that of a batch norm."""
        return frozenset(("train", "tune", "eval") if self._moving.tunes else ("train", "eval"))

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The names that Keras' own files use, after those that were given."""
        return (*self.foreign, keras_names(self._moving))

    @cached_property
    def _moving(self) -> Structure:
        return self._built(still=False)

    @cached_property
    def _still(self) -> Structure:
        return self._built(still=True)

    def _built(self, *, still: bool) -> Structure:
        names = tuple(spec.name for spec in self.features)
        return structure(
            self.build, dict(self.options), names, self.stage_names, self.inputs, still=still
        )

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        stage = self._moving.stage
        infos = leaf_infos(stage, self.stages, part=stage.__getitem__)
        return leaves_in_use(self, infos, self.words)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables; the model was built for its `inputs`, so `x` is not looked at."""
        built = self._moving
        values = {
            path: built.given[path] if path in built.given else _initial(variable, built, key)
            for number, (path, variable) in enumerate((built.params | built.state).items())
            for key in (jax.random.fold_in(rng, number),)
        }
        return Variables(
            nested({path: values[path] for path in built.params}),
            nested({path: values[path] for path in built.state}),
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
        has_mode(mode, self.modes)
        built = self._still if mode == "tune" else self._moving
        values = trees.flat(params) | trees.flat(state)
        lent = [(variable, values[path]) for path, variable in (built.params | built.state).items()]
        lent += [
            (variable, _words(jax.random.fold_in(rng, number)))
            for number, variable in enumerate(built.random)
        ]
        features: dict[str, Array] = {}
        with keras.StatelessScope(lent, initialize_variables=False) as scope:
            for number, piece in enumerate(built.pieces[start:stop], start):
                new = by_name(piece(carry, training=mode != "eval"), self.features)
                carry = new.get(self.stages[number], carry)
                features |= new
        if mode == "train":
            after = {path: scope.get_current_value(v) for path, v in built.state.items()}
            state = nested(after)
        return carry, features, state


def _words(key: Array) -> Array:
    """A key as Keras holds its seeds."""
    return jax.random.bits(key, (2,), "uint32")


def _initial(variable: Any, built: Structure, key: Array) -> Array:
    """The variable's first value.

    Keras fixes the seed of an initializer when it is made; here it follows the key instead. The
    variable remembers its initializer under a private name as long as it has no value."""
    initializer: Any = variable._initializer
    if isinstance(initializer, keras.Initializer) and "seed" in vars(initializer):
        seeded: Any = copy(initializer)
        seeded.seed = built.seeds
        initializer = seeded
    seed = [(built.seeds.state, _words(key))]
    with keras.StatelessScope(seed, initialize_variables=False):
        return initializer(variable.shape, dtype=variable.dtype)
