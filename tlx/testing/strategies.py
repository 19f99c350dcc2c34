"""What every strategy must do, in a small complete setting.

A strategy that learns from labels needs a model with a head and one that learns without them
refuses a head; the kit takes the setting that the strategy accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.errors import ConfigError
from tlx.extension import added_features, extension_of
from tlx.model import Model
from tlx.planning.plan import Planned, plan
from tlx.protocols import (
    Averages,
    Reparametrises,
    Strategy,
    WholeBatch,
)
from tlx.testing.claims import (
    claim,
    claim_alike,
    claim_finite,
    claim_leading,
    claim_plain,
    claim_same,
    claim_value,
    fail,
)
from tlx.testing.compiling import quick_jit
from tlx.testing.strategy_contracts import check_averages as check_averages
from tlx.testing.strategy_contracts import check_draw as check_draw
from tlx.testing.strategy_contracts import check_effective as check_effective
from tlx.testing.strategy_contracts import check_finish as check_finish
from tlx.testing.strategy_contracts import check_setup as check_setup
from tlx.testing.strategy_contracts import set_up
from tlx.testing.tested_models import check_cached_is_the_same as check_cached_is_the_same
from tlx.testing.tested_models import check_every_leaf_learns as check_every_leaf_learns
from tlx.testing.tested_models import check_frozen_statistics as check_frozen_statistics
from tlx.testing.tested_models import check_reads_what_is_kept as check_reads_what_is_kept
from tlx.testing.tested_models import check_tested_is_saved as check_tested_is_saved
from tlx.testing.world import BATCH, constants, world
from tlx.types import Forward, Mode, PyTree, Variables

STEPS = 10


@final
class Subject:
    """A strategy under test in a model that it accepts."""

    def __init__(self, make: Callable[[], Strategy], folder: Path):
        self.make = make
        self.here = world()
        self.jitted: dict[tuple[str, Mode], Any] = {}

    @cached_property
    def thing(self) -> Strategy:
        """The strategy, as a run goes on with it."""
        return set_up(self)

    @cached_property
    def model(self) -> Model:
        """The model, with a head if the strategy takes one."""
        headed = replace(self.here.model, extension=extension_of(self.thing))
        refusals = []
        for model in (headed, replace(headed, head=None)):
            try:
                self.thing.phases(model, STEPS)
            except ConfigError as e:
                refusals.append(str(e))
                continue
            return model
        fail(f"`phases` refuses a model with a head and one without. {' '.join(refusals)}")

    @cached_property
    def own(self) -> Variables:
        """The strategy's own variables."""
        return self.thing.init(jax.random.key(5), self.model.bare, self.here.batch)

    @cached_property
    def variables(self) -> Variables:
        """All variables of a run with this strategy."""
        begun = self.here.variables
        if self.model.extension is not None:  # its head may read other features
            begun = quick_jit(self.model.init)(jax.random.key(1), self.here.batch)
        params, state = (dict(tree) for tree in begun)
        if self.model.head is None:
            params.pop("head", None)
            state.pop("head", None)
        for tree, own in ((params, self.own.params), (state, self.own.state)):
            if jax.tree.leaves(own):
                tree["strategy"] = own
        if isinstance(self.thing, Averages):
            state = self.thing.begin(params, state)
        return Variables(params, state)

    @cached_property
    def phases(self) -> tuple[Planned, ...]:
        """The phases of a run of ten steps."""
        try:
            return plan(self.thing, self.model, self.variables.params, STEPS)
        except ConfigError as e:
            fail(str(e))

    def loss(
        self, planned: Planned, mode: Mode, rows: slice = slice(None)
    ) -> Callable[..., tuple[jax.Array, Forward]]:
        """(params, state, key) -> (mean loss, Forward) of a phase, of some examples."""

        def run(params: Any, state: Any, key: jax.Array) -> tuple[jax.Array, Forward]:
            if isinstance(self.thing, Reparametrises):
                params = self.thing.effective(params)
            forward = planned.phase.forward(
                planned.model,
                Variables(params, state),
                jax.tree.map(lambda leaf: leaf[rows], self.here.batch),
                constants(self.here),
                rng=key,
                mode=mode,
                progress=jnp.float32(0.5),
            )
            return jnp.mean(forward.loss), forward

        return run

    def forward(self, planned: Planned, mode: Mode, seed: int = 3) -> Forward:
        """The pass of a phase, compiled once per mode."""
        name = (planned.phase.name, mode)
        if name not in self.jitted:
            self.jitted[name] = quick_jit(self.loss(planned, mode))
        return self.jitted[name](*self.variables, jax.random.key(seed))[1]


def check_value(subject: Subject) -> None:
    """Equal configuration, equal strategy."""
    claim_value(subject.make, "A strategy")


def check_variables(subject: Subject) -> None:
    """Its own numbers are nested dicts of arrays, one path per leaf."""
    claim_plain(subject.own.params, "The strategy's parameters")
    claim_plain(subject.own.state, "The strategy's state")


def check_steps_add_up(subject: Subject) -> None:
    """The phases share out exactly the steps of the run, also of a very short one."""
    for steps in (1, 2, 3, 10, 97, 1000):
        phases = subject.thing.phases(subject.model, steps)
        each = [phase.steps for phase in phases]
        claim(
            sum(each) == steps and min(each) >= 0,
            f"The phases of a run of {steps} steps have {each} steps; they must add up to {steps}.",
        )
        names = [phase.name for phase in phases]
        claim(len(set(names)) == len(names), f"Phases share a name: {names}.")


def check_groups(subject: Subject) -> None:
    """Every leaf has a group, something moves in every phase, and rates name groups that exist."""
    every = trees.flat(subject.variables.params)
    for phase in subject.thing.phases(subject.model, STEPS):
        for path in every:
            group = phase.group(path)
            claim(
                isinstance(group, str) and group,
                f"Phase {phase.name!r} puts {path!r} in the group {group!r}; a group is a name.",
            )
    claim(subject.phases, "A run of ten steps must have a phase.")


def check_forward(subject: Subject) -> None:
    """The pass of every phase gives a loss per example, features, and a state of the same form."""
    model = subject.model
    specs = (*model.backbone.features, *added_features(model.extension))
    known = {spec.name for spec in specs}
    for planned, mode in _passes(subject):
        forward = subject.forward(planned, mode)
        where = f"The pass of phase {planned.phase.name!r} in mode {mode!r}"
        claim(
            forward.loss.shape == (BATCH,),
            f"{where} must give one loss per example, ({BATCH},); it gives {forward.loss.shape}.",
        )
        claim_finite(forward.loss, f"{where}: the loss")
        claim(
            set(forward.features) == known,
            f"{where} returns the features {sorted(forward.features)}; a divergence may ask for "
            f"any of {sorted(known)}.",
        )
        claim_leading(forward.inputs, BATCH, f"{where}: the inputs")
        claim_alike(forward.state, subject.variables.state, f"{where}: the state")


def check_eval_is_still(subject: Subject) -> None:
    """In mode 'eval' a phase's pass draws no random number and keeps the state, so that two
    epochs can be compared."""
    for planned in subject.phases:
        one, other = (subject.forward(planned, "eval", seed) for seed in (3, 4))
        where = f"Phase {planned.phase.name!r} in mode 'eval'"
        claim_same(one.loss, other.loss, f"{where}: the loss with two keys")
        claim_same(one.state, subject.variables.state, f"{where}: the state")


def check_same_key_same_numbers(subject: Subject) -> None:
    """In mode 'train' the same key gives the same loss and state."""
    for planned in subject.phases:
        one, other = subject.forward(planned, "train"), subject.forward(planned, "train")
        where = f"Phase {planned.phase.name!r}"
        claim_same((one.loss, one.state), (other.loss, other.state), f"{where}: the same key twice")


def check_gradient(subject: Subject) -> None:
    """The loss of every phase moves each of its groups: finite, and not zero everywhere."""
    for planned in subject.phases:
        slope = quick_jit(jax.grad(subject.loss(planned, "train"), has_aux=True))
        found, _ = slope(*subject.variables, jax.random.key(3))
        groups: dict[str, bool] = {}
        for path, leaf in trees.flat(found).items():
            group = planned.phase.group(path)
            if group != "frozen":
                claim_finite(leaf, f"The gradient of {path!r} in phase {planned.phase.name!r}")
                groups[group] = groups.get(group, False) or bool(np.any(np.asarray(leaf)))
        still = sorted(name for name, moves in groups.items() if not moves)
        claim(
            not still,
            f"In phase {planned.phase.name!r} the loss does not depend on the groups {still}; what "
            f"does not learn belongs in the group 'frozen'.",
        )


def check_adds_up(subject: Subject) -> None:
    """In mode 'eval' the loss of an example is the same in half a batch, and training has no state
    of its own, or it says why not (the contract WholeBatch)."""
    thing, half = subject.thing, BATCH // 2
    why = thing.whole_batch if isinstance(thing, WholeBatch) else ""
    adds_up, keeps = True, True
    for planned in {planned.phase.forward: planned for planned in subject.phases}.values():
        run = quick_jit(subject.loss(planned, "eval", slice(half)))
        part = run(*subject.variables, jax.random.key(3))[1].loss
        whole = subject.forward(planned, "eval").loss[:half]
        # An augmentation may have a threshold, at which rounding makes another pixel.
        adds_up &= np.allclose(part, whole, rtol=0.01, atol=1e-4)
        before, after = subject.variables.state, subject.forward(planned, "train").state
        keeps &= _equal(before.get("strategy"), after.get("strategy"))
    claim(
        adds_up or why,
        "The loss of an example depends on the others in its batch. Say in `whole_batch` why, so "
        "that no batch is computed in parts.",
    )
    claim(
        not (why and adds_up and keeps),
        "It has a `whole_batch`, and neither the loss of an example depends on the others nor has "
        "training a state of its own: leave it out, so that a batch may be computed in parts.",
    )


def _equal(one: PyTree, other: PyTree) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _passes(subject: Subject) -> Iterator[tuple[Planned, Mode]]:
    modes: tuple[Mode, ...] = ("train", "eval")
    for planned in subject.phases:
        for mode in modes:
            yield planned, mode
