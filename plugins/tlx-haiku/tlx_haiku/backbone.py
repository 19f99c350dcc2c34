"""A Haiku module as pure functions.

Haiku makes a module pure by `transform_with_state`; here its dictionaries become nested dicts with
Haiku's own names as leaf paths, and its mode is said in the words of its own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import isclass
from typing import Any, final

import haiku as hk
import jax
from jax import Array

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, call_advice, measured
from tlx.backbones.wrapping import (
    WHOLE,
    Switches,
    abstract_input,
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
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables

MODES: Mapping[Mode, Mapping[str, Any]] = {
    "train": {"is_training": True},
    "eval": {"is_training": False},
}
"""The usual single argument `is_training`, which cannot say 'dropout, but running statistics'."""
_HAIKU = switches(MODES)
_NONE: Mapping[str, Any] = {}


def wrap_haiku(
    build: Callable[..., Any],
    features: tuple[str, ...],
    inputs: Inputs,
    *,
    options: Mapping[str, Any] = _NONE,
    stages: tuple[str, ...] = (),
    modes: Mapping[Mode, Mapping[str, Any]] = MODES,
    dialects: tuple[Dialect, ...] = (),
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> HaikuBackbone:
    """The module that `build(**options)` makes (its class will do) as a Backbone; see
    `HaikuBackbone` for what it must do.

    `features` names what it returns, shallow to deep; kind, channels and stride are measured.
    `modes` says for each mode which arguments the module is called with. One with separate
    arguments for dropout and batch norm has all three modes, in the words of these arguments:

        {"train": {"drop": True, "is_training": True},
         "tune": {"drop": True, "is_training": False},
         "eval": {"drop": False, "is_training": False}}

    `leaves` says what cannot be seen of a parameter, by globs over leaf paths: its `kind`, which
    axes of a kernel count outputs (`out`) and which count `layers`. The module is traced in each
    mode. Raises ContractError where it does not run or returns something else than `features`."""
    pairs, called = tuple(sorted(options.items())), switches(modes)
    one = HaikuBackbone(
        build, unmeasured(features), inputs, pairs, stages, called, dialects, leaf_words(leaves)
    )

    def advice(error: Exception, mode: Mode | None) -> str:
        method = getattr(build, "stage" if stages else "__call__") if isclass(build) else None
        first: Mode = "train" if "train" in modes else "eval"
        return call_advice(method, switched(called, mode or first), 2 if stages else 1)

    return replace(one, features=measured(one, Subject("Haiku module", build, advice)))


@final
@dataclass(frozen=True)
class HaikuBackbone:
    """Any Haiku module as a Backbone that is `Staged` and knows `ForeignNames`.

    `build(**options)` makes the module, or any function that calls modules; it runs inside of
    Haiku's transformation. It is a class or a function at module level and the options are
    hashable, so that equal backbones compare equal. Called with (B,H,W,C) and the arguments of a
    mode the module returns a mapping of features, or an array that is the only one. With
    `stage_names` it has a method `stage(name, carry, **arguments) -> (carry, features)` instead,
    and the submodules of a stage are made in `__init__` under the stage's name. Leaf paths are
    Haiku's own: `net/~/conv/w`."""

    build: Callable[..., Any]
    features: tuple[FeatureSpec, ...]
    inputs: Inputs
    options: tuple[tuple[str, Any], ...] = ()
    stage_names: tuple[str, ...] = ()
    arguments: Switches = _HAIKU
    dialects: tuple[Dialect, ...] = ()
    words: Words = ()

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes for which `arguments` has an entry."""
        return frozenset(mode for mode, _ in self.arguments)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stage names, shallow to deep."""
        return self.stage_names or (WHOLE,)

    @cached_property
    def _pure(self) -> hk.TransformedWithState:
        def run(carry: Any, stages: tuple[str, ...], arguments: Mapping[str, Any]) -> Any:
            module, features = self.build(**dict(self.options)), {}
            for name in stages:
                if self.stage_names:
                    carry, new = module.stage(name, carry, **arguments)
                else:
                    new = carry = by_name(module(carry, **arguments), self.features)
                features |= new
            return carry, features

        return hk.transform_with_state(run)

    def _made(self, rng: Array, x: Array) -> Variables:
        """Params and state as Haiku has them."""
        # In mode 'eval' a batch norm would have no averages to make.
        mode: Mode = "train" if "train" in self.modes else "eval"
        return Variables(*self._pure.init(rng, x, self.stages, switched(self.arguments, mode)))

    @cached_property
    def _like(self) -> Variables:
        return jax.eval_shape(self._made, *abstract_input(self))

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        infos = leaf_infos(trees.flat(self._like.params), self.stages, part=_part)
        return leaves_in_use(self, infos, self.words)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables for inputs shaped like `x` (B,H,W,C)."""
        params, state = self._made(rng, x)
        return Variables(nested(params), nested(state))

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
        arguments = switched(self.arguments, mode)
        theirs = trees.unflat(self._like.params, trees.flat(params))
        memory = trees.unflat(self._like.state, trees.flat(state))
        features: dict[str, Array] = {}
        for number in range(start, stop):
            # Haiku counts keys as they are drawn, hence one transformation for each stage.
            key = jax.random.fold_in(rng, number)
            (carry, new), memory = self._pure.apply(
                theirs, memory, key, carry, (self.stages[number],), arguments
            )
            features |= new
        return carry, features, nested(memory) if mode == "train" else state


def _part(path: str) -> str:
    """'conv' of `net/~/conv/w`: the first name below the module itself."""
    return next((part for part in path.split("/")[1:] if not part.startswith("~")), path)
