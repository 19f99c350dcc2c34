"""Any strategy with any divergence.

Every installed pair is traced in the small setting: it either gives a step with a scalar loss, a
gradient for what moves and the divergence in the log, or it is refused with a sentence. The step is
given the source's numbers and the second stream only where the divergence's words ask for them, so
that nothing can cost a pass that it did not declare. A covering set, in which every strategy and
every divergence occurs, is trained for some steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx import registry, trees
from tlx.data.domain import Domain
from tlx.data.fields import ClassLabel
from tlx.errors import TlxError
from tlx.objective import Objective, Term
from tlx.planning import refusals
from tlx.planning.plan import Planned, plan
from tlx.planning.records import needs
from tlx.protocols import Learns, Prepares, Records, Reparametrises
from tlx.testing import divergences, strategies
from tlx.testing.claims import claim, claim_alike, claim_finite
from tlx.testing.compiling import quick_jit
from tlx.testing.samples import made
from tlx.testing.world import CLASSES, constants, inverted, world
from tlx.types import Batch, Constants, DataInfo, Variables
from tlx.weights.sources import Source

NAME, RATE, STEPS = "tested", 1e-3, 2


class Pair(NamedTuple):
    """The references of a strategy and of a divergence."""

    strategy: str
    divergence: str


class Setting(NamedTuple):
    """A pair that goes together: an objective for each phase with steps, and what it is called
    with."""

    phases: tuple[tuple[Planned, Objective], ...]
    variables: Variables
    batch: Batch
    constants: Constants


def pairs() -> list[Pair]:
    """Every installed strategy with every installed divergence."""
    kinds = ("strategies", "divergences")
    one, other = ([plugin.reference for plugin in registry.find(kind)] for kind in kinds)
    return [Pair(strategy, divergence) for strategy in one for divergence in other]


def covering() -> list[Pair]:
    """Few of the pairs that go together, in which everything occurs that occurs in any of them."""
    allowed = [pair for pair in pairs() if isinstance(setting(pair), Setting)]
    chosen: list[Pair] = []
    for number, divergence in enumerate(sorted({pair.divergence for pair in allowed})):
        partners = [pair for pair in allowed if pair.divergence == divergence]
        chosen.append(partners[number % len(partners)])
    seen = {pair.strategy for pair in chosen}
    for pair in allowed:
        if pair.strategy not in seen:
            seen.add(pair.strategy)
            chosen.append(pair)
    return chosen


def setting(pair: Pair) -> Setting | str:
    """The pair put together as `tlx.assemble` does, or the sentence that refuses it."""
    strategy, divergence = _strategy(pair.strategy), _divergence(pair.divergence)
    here, model, term = world(), strategy.model, Term(NAME, divergence.thing)
    other = Source(here.model, here.source, None)
    classes = ClassLabel(tuple(f"class {n}" for n in range(CLASSES)))
    labels = DataInfo("toys", {"label": classes}, {}, "")
    nothing: Any = ()
    words = {NAME: needs(term)}
    try:
        refusals.divergences(
            (term,), words, {"source": other}, model, strategy.variables, labels,
            Domain("toys", labels, nothing, None),
        )  # fmt: skip
        refusals.solved(strategy.phases, (term,), ())
        refusals.idle((term,), strategy.phases)
        own, prepared, recorded = _beside(pair.divergence, model.head is not None)
    except TlxError as refusal:
        return str(refusal)
    variables = strategy.variables
    if own is not None:
        key = f"divergence/{NAME}"
        variables = Variables(
            {**variables.params, key: own.params}, {**variables.state, key: own.state}
        )
    reads = constants(here, divergence={NAME: 0.5})
    compares = any(word.startswith("source_") for word in term.words)
    reads = reads._replace(
        sources=reads.sources if compares else {},
        prepared={NAME: prepared},
        recorded={NAME: {"index": here.batch.index, "values": recorded}} if recorded else {},
    )
    thing = strategy.thing
    effective = thing.effective if isinstance(thing, Reparametrises) else None
    phases = tuple(
        (planned, Objective(
            planned.model, planned.phase.forward, (term,), (("source", here.model),), (), effective
        ))
        for planned in plan(thing, model, variables.params, strategies.STEPS)
        if planned.phase.solve is None
    )  # fmt: skip
    batch = here.batch
    if any(word.startswith("domain_") for word in term.words):
        batch = batch._replace(domain=inverted(batch))
    return Setting(phases, variables, batch, reads)


def check_traced(pair: Pair) -> str:
    """The refusal, in a sentence, or '' for a pair whose every phase has a loss, a gradient of the
    form of what moves, a state of the form of the state, and the divergence in the log."""
    there = setting(pair)
    if isinstance(there, str):
        claim(there.endswith("."), f"{pair} is refused without a sentence: {there!r}.")
        return there
    for planned, objective in there.phases:
        where = f"Phase {planned.phase.name!r} of {pair.strategy} with {pair.divergence}"
        moving, _ = trees.partition(there.variables.params, planned.trainable)
        step = _step(planned, objective)
        (loss, (state, metrics)), slope = jax.eval_shape(step, *there.variables, *there[2:])
        claim(loss.shape == (), f"{where}: the loss is {loss.shape}, not a scalar.")
        claim_alike(slope, moving, f"{where}: the gradient")
        claim_alike(state, there.variables.state, f"{where}: the state")
        logged = {f"divergence/{NAME}", f"divergence/{NAME}/weighted"}
        claim(logged <= set(metrics), f"{where}: the divergence is not in {sorted(metrics)}.")
    return ""


def check_trained(pair: Pair) -> None:
    """Some steps of every phase: loss and gradient stay finite, what moves has moved, what is
    frozen has not, and the divergence costs no less than nothing."""
    there = setting(pair)
    claim(isinstance(there, Setting), f"{pair} is refused: {there}")
    assert isinstance(there, Setting)
    variables = there.variables
    for planned, objective in there.phases:
        where = f"Phase {planned.phase.name!r} of {pair.strategy} with {pair.divergence}"
        step, before = quick_jit(_step(planned, objective)), variables.params
        for _ in range(STEPS):
            (loss, (state, metrics)), slope = step(*variables, *there[2:])
            claim_finite((loss, metrics, slope), where)
            params = jax.tree.map(
                lambda p, g: p if g is None else p - RATE * g, variables.params, slope,
                is_leaf=lambda leaf: leaf is None,
            )  # fmt: skip
            variables = Variables(params, state)
        now, then = trees.flat(variables.params), trees.flat(before)
        moved = {path for path in now if not np.array_equal(now[path], then[path])}
        free = {path for path, moves in trees.flat(planned.trainable).items() if moves}
        claim(moved <= free, f"{where}: frozen leaves moved: {sorted(moved - free)}.")
        claim(moved, f"{where}: nothing moved.")


def _step(planned: Planned, objective: Objective) -> Callable[..., Any]:
    """(params, state, batch, constants) -> ((loss, (state, metrics)), gradient of what moves)."""

    def run(params: Any, state: Any, batch: Any, reads: Constants) -> Any:
        moving, still = trees.partition(params, planned.trainable)

        def loss(moving: Any) -> Any:
            return objective(
                trees.merge(moving, still), state, batch, reads,
                rng=jax.random.key(4), progress=jnp.float32(0.5),
            )  # fmt: skip

        return jax.value_and_grad(loss, has_aux=True)(moving)

    return run


@cache
def _strategy(reference: str) -> strategies.Subject:
    return strategies.Subject(_maker("strategies", reference), Path())


@cache
def _divergence(reference: str) -> divergences.Subject:
    return divergences.Subject(_maker("divergences", reference), Path())


def _maker(kind: str, reference: str) -> Callable[[], Any]:
    def make() -> Any:
        with TemporaryDirectory() as folder:
            return made(kind, registry.load(kind, reference), Path(folder))

    return make


@cache
def _beside(reference: str, headed: bool) -> tuple[Variables | None, Any, Mapping[str, Any]]:
    """A divergence's own variables, what it prepares and what it records."""
    subject, here = _divergence(reference), world()
    model = here.model if headed else replace(here.model, head=None)
    thing, other = subject.thing, subject.other
    own = prepared = None
    if isinstance(thing, Learns):
        own = thing.init(model=model, source=other, batch=here.batch, rng=jax.random.key(7))
    if isinstance(thing, Prepares):
        prepared = thing.prepare(
            model=model, variables=here.variables, source=other, batches=[here.batch],
            rng=jax.random.key(8),
        )  # fmt: skip
    return own, prepared, subject.recorded if isinstance(thing, Records) else {}
