"""A Backbone from two plain functions: one that makes parameters, one that uses them.

For networks of no framework. The functions ask for what they need by parameter names, so that a
network without dropout or batch statistics is never told about keys, state or modes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, final

import jax
from jax import Array

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, measured
from tlx.backbones.wrapping import (
    MOVES,
    WHOLE,
    abstract_input,
    by_name,
    checked,
    has_mode,
    leaf_info,
    leaf_infos,
    nested,
    unmeasured,
)
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import Inputs
from tlx.errors import ContractError, did_you_mean, listed
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables

Function: TypeAlias = Callable[..., Any]

FOR_INIT = ("rng", "x")
FOR_APPLY = ("params", "state", "x", "rng", "mode")
ALL: tuple[Mode, ...] = ("train", "tune", "eval")
_NONE: Mapping[str, Any] = {}


def wrap_functions(
    init: Function,
    apply: Function,
    features: tuple[str, ...],
    inputs: Inputs,
    *,
    options: Mapping[str, Any] = _NONE,
    modes: tuple[Mode, ...] = ALL,
    dialects: tuple[Dialect, ...] = (),
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> FunctionBackbone:
    """An init and an apply function as a Backbone.

        def init(rng, x, width): return {"conv": {"kernel": ...}}
        def apply(params, x): return {"map": ..., "pooled": ...}

        wrap_functions(init, apply, ("map", "pooled"), inputs, options={"width": 16})

    Args:
        init: asks for any of `rng`, `x` (B,H,W,C), and returns parameters: a pytree of arrays.
        apply: asks for any of `params`, `x`, `rng`, `mode`, and returns a mapping of features, or
            an array that is the only one. If it asks for `state`, too, then `init` returns
            (params, state) and it returns (features, state); in modes other than 'train' this
            state is dropped.
        features: names of what `apply` returns, shallow to deep; kind, channels and stride are
            measured.
        inputs: how it wants its pictures.
        options: what else the functions ask for by name, with values that hash. Equal backbones
            are compiled once: give functions at module level and what varies as options.
        modes: those that `apply` tells apart; one that ignores `mode` is the same in all.
        dialects: how foreign weight files speak of it.
        leaves: what cannot be seen of a parameter, by globs over leaf paths: its `kind`, which
            axes of a kernel count outputs (`out`) and which count `layers`.

    Raises ContractError where a function asks for something else, where `apply` has a state but
    asks for no mode, and where it returns something else than `features`."""
    pairs = tuple(sorted(options.items()))
    one = FunctionBackbone(
        init, apply, unmeasured(features), inputs, pairs, frozenset(modes), dialects,
        leaf_words(leaves),
    )  # fmt: skip
    return replace(one, features=measured(one, Subject("function", apply)))


@final
@dataclass(frozen=True)
class FunctionBackbone:
    """Two functions as a Backbone that knows `ForeignNames`; see `wrap_functions`."""

    make: Function
    run: Function
    features: tuple[FeatureSpec, ...]
    inputs: Inputs
    options: tuple[tuple[str, Any], ...] = ()
    modes: frozenset[Mode] = frozenset(ALL)
    dialects: tuple[Dialect, ...] = ()
    words: Words = ()

    def __post_init__(self) -> None:
        asked = {*self._asked(self.make, FOR_INIT), *self._asked(self.run, FOR_APPLY)}
        for option, _ in self.options:
            if option not in asked:
                raise ContractError(
                    f"Neither function asks for the option {option!r}.{did_you_mean(option, asked)}"
                )
        if self._stateful and "mode" not in self._asked(self.run, FOR_APPLY):
            raise ContractError(
                f"{_name(self.run)} asks for `state` but not for `mode`, so it cannot know when "
                "to use and when to update it. Let it ask for `mode`, too."
            )

    def _asked(self, function: Function, words: tuple[str, ...]) -> tuple[str, ...]:
        """Parameters of a function that it is called with. ContractError for one that is not
        known."""
        known, asked = (*words, *dict(self.options)), []
        for name, parameter in inspect.signature(function).parameters.items():
            if name in known:
                asked.append(name)
            elif parameter.default is parameter.empty:
                raise ContractError(
                    f"{_name(function)} asks for {name!r}.{did_you_mean(name, known)} It can have "
                    f"{listed(words)} and what is given as options."
                )
        return tuple(asked)

    def _call(self, function: Function, words: Mapping[str, Any]) -> Any:
        every = {**words, **dict(self.options)}
        return function(**{name: every[name] for name in self._asked(function, tuple(words))})

    @property
    def _stateful(self) -> bool:
        return "state" in self._asked(self.run, FOR_APPLY)

    def _made(self, rng: Array, x: Array) -> Variables:
        """Params and state in the functions' own containers."""
        made = self._call(self.make, {"rng": rng, "x": x})
        return Variables(*made) if self._stateful else Variables(made, {})

    @cached_property
    def _like(self) -> Variables:
        return jax.eval_shape(self._made, *abstract_input(self))

    @cached_property
    def _leaves(self) -> Mapping[str, LeafInfo]:
        infos = leaf_infos(trees.flat(self._like.params), (WHOLE,))
        return leaves_in_use(self, infos, self.words)

    def leaf(self, path: str) -> LeafInfo:
        """Kind of the parameter at a leaf path relative to the backbone; its stage is `all`."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables for inputs shaped like `x` (B,H,W,C), as nested dicts."""
        params, state = self._made(rng, x)
        return Variables(nested(params), nested(state))

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of `x` (B,H,W,C), and the state after the pass."""
        has_mode(mode, self.modes)
        words = {
            "params": trees.unflat(self._like.params, trees.flat(params)),
            "state": trees.unflat(self._like.state, trees.flat(state)),
            "x": x,
            "rng": rng,
            "mode": mode,
        }
        output = self._call(self.run, words)
        if self._stateful:
            output, new = output
            state = nested(new) if mode in MOVES else state
        return checked(by_name(output, self.features), self.features), state


def _name(function: Function) -> str:
    return f"The function {getattr(function, '__name__', function)!r}"
