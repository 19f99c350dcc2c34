"""What every backbone must do.

Structure is checked with abstract arrays and costs no arithmetic, so it is checked for networks
of any size. Numbers are checked for networks of at most `LIMIT` parameters: compiling a larger
one takes longer than it teaches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final, get_args

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.contracts.input import ports_of
from tlx.errors import TlxError
from tlx.protocols import Backbone, Staged
from tlx.testing.claims import (
    NotApplicable,
    claim,
    claim_alike,
    claim_close,
    claim_finite,
    claim_leading,
    claim_moves,
    claim_plain,
    claim_same,
    claim_value,
    fail,
)
from tlx.testing.compiling import quick_jit
from tlx.testing.spec_claims import claim_feature, claim_inputs, small_input
from tlx.testing.stages import in_turn
from tlx.testing.visible import check_hidden_changes_nothing as check_hidden_changes_nothing
from tlx.testing.visible import check_visible_equals_apply as check_visible_equals_apply
from tlx.testing.visible import check_visible_form as check_visible_form
from tlx.types import LeafKind, Mode, Variables

LIMIT = 500_000
BATCH = 4
MODES: tuple[Mode, ...] = get_args(Mode)


@final
class Subject:
    """A backbone under test; what several checks need is computed once."""

    def __init__(self, make: Callable[[], Backbone], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Backbone:
        """The backbone."""
        return self.make()

    @cached_property
    def x(self) -> Any:
        """What it is given of 4 examples: random numbers of the shapes that its inputs prepare, of
        maps without a size of their own 32 by 32."""
        rng = np.random.default_rng(0)
        ports = ports_of(self.thing.inputs)
        x = {p.name: jax.eval_shape(p.input.prepare, small_input(p.input).example()) for p in ports}
        made = jax.tree.map(partial(_random, rng), x)
        return next(iter(made.values())) if len(made) == 1 else made

    @cached_property
    def shapes(self) -> Variables:
        """Its variables as abstract arrays."""
        return jax.eval_shape(self.thing.init, jax.random.key(1), self.x)

    @cached_property
    def variables(self) -> Variables:
        """Its variables; NotApplicable for a network that is too large for this."""
        size = trees.count(self.shapes.params)
        if size > LIMIT:
            raise NotApplicable(
                f"{size:,} parameters: numbers are checked for up to {LIMIT:,}, above that only "
                f"structure is."
            )
        return quick_jit(self.thing.init)(jax.random.key(1), self.x)

    @cached_property
    def jitted(self) -> Any:
        """`apply` compiled, once per mode."""
        return quick_jit(self.thing.apply, static_argnames="mode")

    @cached_property
    def passes(self) -> dict[Mode, Any]:
        """What `apply` returns in each mode, as abstract arrays."""
        params, state = self.shapes
        return {
            mode: jax.eval_shape(
                partial(self.thing.apply, mode=mode), params, state, self.x, rng=jax.random.key(2)
            )
            for mode in MODES
            if mode in self.thing.modes
        }

    def run(self, mode: Mode, x: Any = None, seed: int = 2) -> Any:
        """Features and state."""
        params, state = self.variables
        x = self.x if x is None else x
        return self.jitted(params, state, x, rng=jax.random.key(seed), mode=mode)

    def has(self, mode: Mode) -> None:
        """NotApplicable unless the backbone has this mode."""
        if mode not in self.thing.modes:
            raise NotApplicable(f"It has no mode {mode!r}.")

    @property
    def staged(self) -> Staged:
        """The backbone as a Staged one, else NotApplicable."""
        if not isinstance(self.thing, Staged):
            raise NotApplicable("It does not run in stages.")
        return self.thing


def _random(rng: np.random.Generator, leaf: Any) -> np.ndarray:
    shape = (BATCH, *leaf.shape[1:])
    if np.issubdtype(leaf.dtype, np.floating):
        return rng.normal(size=shape).astype(leaf.dtype)
    return rng.integers(0, 2, shape).astype(leaf.dtype)


def _other_neighbours(leaf: np.ndarray) -> np.ndarray:
    """The same first example beside others; of numbers that count or mask, its own again."""
    floating = np.issubdtype(leaf.dtype, np.floating)
    return np.concatenate([leaf[:1], -2 * leaf[1:] if floating else leaf[:1].repeat(BATCH - 1, 0)])


def check_value(subject: Subject) -> None:
    """Equal configuration, equal backbone."""
    claim_value(subject.make, "A backbone")


def check_inputs(subject: Subject) -> None:
    """`inputs` describes a preprocessing that can be applied."""
    claim_inputs(subject.thing.inputs)


def check_modes(subject: Subject) -> None:
    """`modes` are known ones and hold 'eval', without which nothing can be predicted."""
    modes, known = subject.thing.modes, set(get_args(Mode))
    claim(modes <= known, f"`modes` holds {sorted(modes - known)}; known are {sorted(known)}.")
    claim("eval" in modes, f"`modes` is {sorted(modes)}; it must hold 'eval'.")


def check_variables(subject: Subject) -> None:
    """`init` gives nested dicts of arrays, one path per leaf, floating parameters."""
    claim_plain(subject.shapes.params, "The parameters")
    claim_plain(subject.shapes.state, "The state")
    leaves = trees.flat(subject.shapes.params)
    claim(leaves, "A backbone has at least one parameter; `init` gave none.")
    for path, leaf in leaves.items():
        claim(
            jnp.issubdtype(leaf.dtype, jnp.floating),
            f"The parameter {path!r} is {leaf.dtype}; what is not differentiated belongs in state.",
        )


def check_features(subject: Subject) -> None:
    """`apply` returns the declared features, of the declared kind, channels and stride."""
    specs = subject.thing.features
    names = [spec.name for spec in specs]
    claim(names, "A backbone declares at least one feature.")
    claim(len(set(names)) == len(names), f"A feature is declared twice: {names}.")
    maps = [leaf for leaf in jax.tree.leaves(subject.x) if leaf.ndim == 4]
    height = maps[0].shape[1] if maps else 0
    for mode, (features, _) in subject.passes.items():
        claim(
            set(features) == set(names),
            f"In mode {mode!r} `apply` returns the features {sorted(features)}, but "
            f"{sorted(names)} are declared.",
        )
        claim_leading(features, BATCH, "The features")
        for spec in specs:
            claim_feature(spec, features[spec.name].shape, height)


def check_state_form(subject: Subject) -> None:
    """The state comes back as the same tree of the same arrays, in every mode."""
    for mode, (_, state) in subject.passes.items():
        claim_alike(state, subject.shapes.state, f"The state after a pass in mode {mode!r}")


def check_leaf(subject: Subject) -> None:
    """`leaf` knows stage and kind of every parameter."""
    thing, kinds = subject.thing, get_args(LeafKind)
    for path in trees.flat(subject.shapes.params):
        try:
            info = thing.leaf(path)
        except (LookupError, TlxError) as e:
            fail(f"`leaf` must answer for every parameter; for {path!r} it raised {e!r}.")
        claim(info.kind in kinds, f"`leaf({path!r})` is of kind {info.kind!r}, not one of {kinds}.")
        if isinstance(thing, Staged):
            claim(
                info.stage in thing.stages,
                f"`leaf({path!r})` is in stage {info.stage!r}, which is none of {thing.stages}.",
            )


def check_stages_form(subject: Subject) -> None:
    """Stages have unique names, and together give every feature once."""
    staged, seen = subject.staged, []
    names = staged.stages
    claim(names and len(set(names)) == len(names), f"Stage names must be unique: {names}.")
    params, state = subject.shapes

    run = partial(in_turn, staged, rng=jax.random.key(2), mode="eval")
    for features in jax.eval_shape(run, params, state, subject.x)[0]:
        seen += features
    declared = [spec.name for spec in subject.thing.features]
    claim(
        sorted(seen) == sorted(declared),
        f"The stages in turn give the features {sorted(seen)}, but {sorted(declared)} are "
        f"declared; each belongs to one stage.",
    )


def check_stages_equal_apply(subject: Subject) -> None:
    """Running the stages one after the other equals `apply`, in mode 'eval'."""
    staged = subject.staged
    run = quick_jit(partial(in_turn, staged, rng=jax.random.key(2), mode="eval"))
    found, _ = run(*subject.variables, subject.x)
    every = {name: value for features in found for name, value in features.items()}
    wanted, _ = subject.run("eval")
    claim_close(every, dict(wanted), "The stages in turn against apply")


def check_eval_keeps_state(subject: Subject) -> None:
    """Mode 'eval' returns the state bit for bit."""
    claim_same(subject.run("eval")[1], subject.variables.state, "The state after mode 'eval'")


def check_tune_keeps_state(subject: Subject) -> None:
    """Mode 'tune' returns the state bit for bit."""
    subject.has("tune")
    claim_same(subject.run("tune")[1], subject.variables.state, "The state after mode 'tune'")


def check_stochastic(subject: Subject) -> None:
    """Mode 'stochastic' moves the state, and another key gives other features."""
    subject.has("stochastic")
    one, other = subject.run("stochastic", seed=2), subject.run("stochastic", seed=3)
    moved = jax.tree.map(jnp.subtract, one[1], subject.variables.state)
    claim_moves(moved, "Mode 'stochastic' leaves every running statistic where it was.")
    differ = jax.tree.map(jnp.subtract, one[0], other[0])
    claim_moves(differ, "Mode 'stochastic' gives the same features with every key.")


def check_same_key_same_numbers(subject: Subject) -> None:
    """In mode 'train' the same key gives the same features and state."""
    subject.has("train")
    claim_same(subject.run("train"), subject.run("train"), "Two passes with the same key")


def check_eval_ignores_key(subject: Subject) -> None:
    """Mode 'eval' draws no random number."""
    one, other = subject.run("eval", seed=2), subject.run("eval", seed=3)
    claim_same(one[0], other[0], "Features in mode 'eval' with two keys")


def check_eval_sees_examples_alone(subject: Subject) -> None:
    """In mode 'eval' an example's features do not depend on its neighbours in the batch."""
    others = jax.tree.map(_other_neighbours, subject.x)
    one, other = subject.run("eval")[0], subject.run("eval", others)[0]
    one, other = (jax.tree.map(lambda leaf: leaf[0], features) for features in (one, other))
    claim_close(one, other, "Features of the first example beside other neighbours")


def check_jit_equals_eager(subject: Subject) -> None:
    """Compiled or not, `apply` gives the same features."""
    params, state = subject.variables
    eager, _ = subject.thing.apply(params, state, subject.x, rng=jax.random.key(2), mode="eval")
    claim_close(dict(subject.run("eval")[0]), dict(eager), "Features under jit against eager")


def check_gradient(subject: Subject) -> None:
    """The gradient of the deepest feature is finite, and not zero everywhere."""
    mode: Mode = "tune" if "tune" in subject.thing.modes else "eval"
    params, state = subject.variables
    deepest = subject.thing.features[-1].name

    def loss(params: Any) -> jax.Array:
        features, _ = subject.thing.apply(
            params, state, subject.x, rng=jax.random.key(2), mode=mode
        )
        return jnp.sum(features[deepest] ** 2)

    slope = quick_jit(jax.grad(loss))(params)
    claim_finite(slope, "The gradient")
    claim_moves(slope, f"No parameter has an influence on the deepest feature {deepest!r}.")
