"""A linen module as pure functions.

A linen module is pure already; here its variables are parted into parameters and state, and its
mode is said in the words of its own arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import jax
from flax import linen as nn
from flax.errors import FlaxError
from jax import Array
from jax.extend.core import get_opaque_trace_state

from tlx import trees
from tlx.backbones.leaves import NONE, Words, leaf_words, leaves_in_use
from tlx.backbones.trial import Subject, call_advice, measured
from tlx.backbones.wrapping import (
    MOVES,
    WHOLE,
    Switches,
    abstract_input,
    by_name,
    checked,
    leaf_info,
    leaf_infos,
    switched,
    switches,
    unmeasured,
)
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import Inputs
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables

MODES: Mapping[Mode, Mapping[str, Any]] = {"train": {"train": True}, "eval": {"train": False}}
"""The usual single argument `train`, which cannot say 'dropout, but running statistics'."""
_FLAX = switches(MODES)


def wrap_linen(
    module: nn.Module,
    features: tuple[str, ...],
    inputs: Inputs,
    *,
    stages: tuple[str, ...] = (),
    modes: Mapping[Mode, Mapping[str, Any]] = MODES,
    streams: tuple[str, ...] = ("dropout",),
    dialects: tuple[Dialect, ...] = (),
    leaves: Mapping[str, Mapping[str, Any]] = NONE,
) -> LinenBackbone:
    """A linen module as a Backbone; see `LinenBackbone` for what it must do.

    `features` names what it returns, shallow to deep; kind, channels and stride are measured.
    `modes` says for each mode which arguments the module is called with. One with separate
    arguments for dropout and batch norm has all three modes, in the words of these arguments:

        {"train": {"deterministic": False, "use_running_average": False},
         "tune": {"deterministic": False, "use_running_average": True},
         "eval": {"deterministic": True, "use_running_average": True}}

    `leaves` says what cannot be seen of a parameter, by globs over leaf paths: its `kind`, which
    axes of a kernel count outputs (`out`) and which count `layers`. The module is traced in each
    mode. Raises ContractError where it does not run or returns something else than `features`."""
    pairs, words = switches(modes), leaf_words(leaves)
    one = LinenBackbone(
        module, unmeasured(features), inputs, stages, pairs, streams, dialects, words
    )
    called = getattr(type(module), "stage" if stages else "__call__", None)

    def advice(error: Exception, mode: Mode | None) -> str:
        if stream := re.search(r'needs PRNG for "(\w+)"', str(error)):
            names = str((*streams, stream[1])).replace("'", '"')
            return f"Name the random streams that it draws from: streams={names}."
        return call_advice(called, switched(pairs, mode or "eval"), 2 if stages else 1)

    subject = Subject("linen module", type(module), advice)
    return replace(one, features=measured(one, subject))


@final
@dataclass(frozen=True)
class LinenBackbone:
    """Any linen module as a Backbone that is `Staged`, `Traced` and knows `ForeignNames`.

    Without `stage_names` the module is one stage, `all`, and called with (B,H,W,C) and the
    arguments of a mode it returns a mapping of features, or an array that is the only one. With
    them it also has a method `stage(name, carry, **arguments) -> (carry, features)`, and the
    submodules of a stage are attributes with the stage's name, made in `setup`. The collection
    `params` is the parameters; every other collection that a pass reads is state, and what a
    module only sows is dropped. `streams` are the random streams
    that it draws from. `dialects` are the tables of names in files of other libraries; without
    one a name in a file is a leaf path already."""

    module: nn.Module
    features: tuple[FeatureSpec, ...]
    inputs: Inputs
    stage_names: tuple[str, ...] = ()
    arguments: Switches = _FLAX
    streams: tuple[str, ...] = ("dropout",)
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
    def _leaves(self) -> Mapping[str, LeafInfo]:
        # Linen knows its parameters only when it has seen an input; an abstract one will do.
        params, _ = jax.eval_shape(self.init, *abstract_input(self))
        return leaves_in_use(self, leaf_infos(trees.flat(params), self.stages), self.words)

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of the parameter at a leaf path relative to the backbone."""
        return leaf_info(self._leaves, path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh variables for inputs shaped like `x` (B,H,W,C)."""
        rngs = self._rngs(rng, ("params", *self.streams))
        every = dict(self.module.init(rngs, x, **switched(self.arguments, "eval")))
        every = nn.unbox(every)
        params = every.pop("params", {})
        return Variables(params, {name: every[name] for name in every if name in self._read})

    @cached_property
    def _read(self) -> frozenset[str]:
        """The collections that a pass reads, in some mode. What is sown may be left out; what is
        a variable cannot be made in a pass that must not write it."""
        _, x = abstract_input(self)
        rngs = self._rngs(jax.random.key(0), ("params", *self.streams))

        def made(x: Array) -> Any:
            return nn.unbox(self.module.init(rngs, x, **switched(self.arguments, "eval")))

        every = jax.eval_shape(made, x)
        others = frozenset(every) - {"params"}
        return frozenset(name for name in others if self._reads(name, every, x, rngs))

    def _reads(self, name: str, every: Any, x: Any, rngs: Any) -> bool:
        if name == "batch_stats":
            return True
        rest = {other: value for other, value in every.items() if other != name}
        for mode in self.modes:

            def run(rest: Any, x: Array, mode: Mode = mode) -> Any:
                mutable = [other for other in rest if other != "params"]
                arguments = switched(self.arguments, mode)
                return self.module.apply(rest, x, rngs=rngs, mutable=mutable, **arguments)

            try:
                jax.eval_shape(run, rest, x)
            except FlaxError:
                return True
        return False

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of `x` (B,H,W,C), and the state after the pass."""
        output, state = self._run(params, state, x, rng=rng, mode=mode)
        return checked(by_name(output, self.features), self.features), state

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
        features: dict[str, Array] = {}
        for name in self.stages[start:stop]:
            if self.stage_names:
                (carry, new), state = self._run(
                    params, state, name, carry, rng=rng, mode=mode, method="stage"
                )
            else:
                new, state = self.apply(params, state, carry, rng=rng, mode=mode)
                carry = new
            features |= new
        return carry, features, state

    def trace(self, params: Params, state: State, x: Array) -> dict[str, Array]:
        """What every submodule returns for `x`, by its path, in the order in which they end;
        without those of a stack of layers, which have many answers."""
        outputs: dict[str, Array] = {}
        outside = get_opaque_trace_state(convention="flax")

        def written(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            here = get_opaque_trace_state(convention="flax") == outside
            if here and context.method_name == "__call__" and isinstance(output, Array):
                outputs["/".join(context.module.path)] = output
            return output

        with nn.intercept_methods(written):
            self.apply(params, state, x, rng=jax.random.key(0), mode="eval")
        outputs.pop("", None)  # the whole is no layer
        return outputs

    def _run(
        self,
        params: Params,
        state: State,
        *inputs: Any,
        rng: Array,
        mode: Mode,
        method: str | None = None,
    ) -> tuple[Any, State]:
        output, new = self.module.apply(
            {"params": params, **state},
            *inputs,
            rngs=self._rngs(rng, self.streams),
            mutable=list(state) if mode in MOVES else [],
            method=method,
            **switched(self.arguments, mode),
        )
        return output, {**state, **new} if mode in MOVES else state

    def _rngs(self, rng: Array, names: tuple[str, ...]) -> dict[str, Array]:
        return {name: jax.random.fold_in(rng, number) for number, name in enumerate(names)}
