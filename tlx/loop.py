"""The loop: phases of steps, evaluation on the validation split, checkpoints, the best step.

Readable from top to bottom. Everything that decides the future lives in the `TrainState`, and a
batch is a function of the step, so a run that is resumed ends bit-identical to one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.assemble import Experiment
from tlx.checkpoint import Checkpoints, Restored
from tlx.data.splits import Subset
from tlx.devices import hosts, mesh
from tlx.devices.not_finite import TOTAL
from tlx.errors import CollapsedError, DivergedError
from tlx.feeding.cache_store import Store
from tlx.feeding.feed import Feed, feeding, solving
from tlx.planning.plan import Planned
from tlx.protocols import SelfSupervised, Sink
from tlx.reporting.pace import Pace
from tlx.reporting.reached import Reached, followed
from tlx.run_folder import folder
from tlx.training.another_length import going_on
from tlx.training.best_step import ahead, entered, is_solved
from tlx.training.diverged import advice, left_out, refuse_lost, stopping
from tlx.training.health import watch
from tlx.training.interrupt import early_words, interruptible, interruption, leaving_on_failure
from tlx.training.logged import cut, logged, rate
from tlx.training.profile import Clock
from tlx.training.solved import solution
from tlx.training.split_metrics import evaluated
from tlx.training.step_program import Arguments, StepProgram
from tlx.training.train_state import copied, entering, fresh_state, like
from tlx.types import Batch, Event, TrainState, Variables
from tlx.weights.statistics import recomputed


class Trained(NamedTuple):
    """What training left: the best variables with their validation metrics, None where these are
    not known as the model will predict, and the costs; `skipped`: how many updates were left out,
    where they are counted; `reached`: what each phase brought."""

    variables: Variables
    val: Mapping[str, float] | None
    best_step: int
    steps: int
    compile_seconds: float
    skipped: int | None = None
    reached: Reached = MappingProxyType({})


def train(
    experiment: Experiment, out: Path, sinks: Sink, *, resume: bool, store: Store | None = None,
    clock: Clock | None = None,
) -> Trained:  # fmt: skip
    """Run every phase; `store` holds what other runs computed of the same pictures, `clock` is told
    what takes how long. Raises DivergedError when a loss is not finite, with the last checkpoint
    before that left, and Interrupted when a signal asked to stop, with one of that step."""
    with Checkpoints(out / folder.CHECKPOINTS) as checkpoints, interruptible() as asked_to_stop:
        own = store or Store(), clock or Clock()
        return _Loop(experiment, checkpoints, sinks, asked_to_stop, *own).run(resume)


@dataclass
class _Loop:
    """The state of one call of `train`; its methods are the steps of the loop."""

    experiment: Experiment
    checkpoints: Checkpoints
    sinks: Sink
    asked_to_stop: Callable[[], bool]
    store: Store
    clock: Clock

    def __post_init__(self) -> None:
        experiment = self.experiment
        self.compile_seconds, self.saved = 0.0, (-1, time.perf_counter())
        self.val: Mapping[str, float] | None = None  # of the best step, as the result has it
        self.reached: Reached = {}
        every = experiment.config.eval_every or 1.0
        self.eval_steps = max(1, round(every * experiment.steps_per_epoch))
        self.metric, self.direction = experiment.selection
        self.watch = watch(experiment)
        way = experiment.strategy
        self.keeps = way.keeps if isinstance(way, SelfSupervised) else "best"

    def run(self, resume: bool) -> Trained:
        experiment = self.experiment
        train, best = self._start(resume)
        for planned in experiment.phases:
            step = int(train.step)
            if step >= planned.stop:
                continue
            if step == planned.start and planned is not experiment.phases[0]:
                train = entering(experiment, planned, train)
                train = train._replace(ledger={**train.ledger, "since": jnp.int32(0)})
            if self._out_of_patience(planned, train):
                self._tell("note", step, text="It stopped early; a larger patience goes on.")
                continue
            run = self._steps if planned.phase.solve is None else self._solved
            train, best = run(planned, train, best)
        self._save(train, best, force=True)
        best_step = int(train.ledger["best_step"])
        skipped = int(train.ledger[TOTAL]) if TOTAL in train.ledger else None
        costs = int(train.step), self.compile_seconds, skipped
        return Trained(best, self.val, best_step, *costs, self.reached)

    def _start(self, resume: bool) -> tuple[TrainState, Variables]:
        """A fresh state, or the newest whole checkpoint."""
        experiment = self.experiment
        if resume:
            found = self.checkpoints.restore(lambda step, meta: like(experiment, step, meta))
            if found is not None:
                return self._resumed(found)
            self._tell("note", 0, text="There is no checkpoint yet; starting from the beginning.")
        return self._watched(fresh_state(experiment, experiment.phases[0])), experiment.variables

    def _watched(self, train: TrainState) -> TrainState:
        """With what the features are like before the first step."""
        if self.watch is None:
            return train
        with self.clock.part("evaluation"):
            found = self.watch.measure(self._used(train))
        self._tell("eval", 0, split="val", metrics=found, best=False, epoch=0.0)
        return train._replace(ledger=self.watch.begun(train.ledger, found))

    def _resumed(self, found: Restored) -> tuple[TrainState, Variables]:
        for text in found.notes:
            self._tell("warning", found.step, text=text)
        longer = going_on(self.experiment, found.step, found.meta)
        self._tell("note", found.step, text=f"Resumed at step {found.step}. {longer}".strip())
        self.saved = (found.step, time.perf_counter())
        self.val, self.reached = found.meta.get("val"), found.meta.get("reached") or {}
        return found.tree["train"], found.tree["best"]

    def _solved(
        self, planned: Planned, train: TrainState, best: Variables
    ) -> tuple[TrainState, Variables]:
        """A phase whose head is solved for, in place of its steps."""
        experiment, variables = self.experiment, self._used(train)
        self._enter(planned, train)
        with self.clock.part("frozen prefix"):
            rows = solving(experiment, planned, variables, self.store)
        variables, rng = mesh.alone((variables, train.rng), experiment.mesh)
        key = jax.random.fold_in(rng, int(train.step))
        leave = partial(self._leave, planned, [], 0.0, train, best)
        with self.clock.part("step"), leaving_on_failure(leave):
            found = solution(experiment.config.strategy.name, planned, variables, rows, key)
        self._tell("note", planned.stop, text=found.note)
        train = train._replace(
            step=jnp.int32(planned.stop),
            params={**train.params, "head": hosts.agreed(found.head)},
        )
        with self.clock.part("evaluation"):
            train, best = self._select(planned, train, best, experiment.splits.val)
        self._save(train, best, force=True)
        return train, best

    def _steps(
        self, planned: Planned, train: TrainState, best: Variables
    ) -> tuple[TrainState, Variables]:
        self._enter(planned, train)
        start = int(train.step)
        with ExitStack() as opened:
            with self.clock.part("frozen prefix"):
                feed = opened.enter_context(feeding(
                    self.experiment, planned, self._used(train), start, every=self.eval_steps,
                    store=self.store, tell=lambda text: self._tell("note", start, text=text),
                ))  # fmt: skip
            return self._fed(planned, train, best, feed)

    def _enter(self, planned: Planned, train: TrainState) -> None:
        self._tell(
            "phase", int(train.step),
            name=planned.phase.name, steps=planned.phase.steps,
            trainable=planned.moving(train.params), first_step=planned.start,
        )  # fmt: skip

    def _fed(
        self, planned: Planned, train: TrainState, best: Variables, feed: Feed
    ) -> tuple[TrainState, Variables]:
        experiment, config = self.experiment, self.experiment.config
        constants = experiment.constants._replace(rows=feed.rows)
        self.speed = "features_per_second" if feed.cached else "images_per_second"
        steps: dict[int, Any] = {}  # how many in one call -> the program
        waiting: list[Any] = []
        since, number = time.perf_counter(), int(train.step)
        train = mesh.placed(train, experiment.mesh)
        pace = Pace(planned.phase.name, number, planned.stop)
        batch = self.clock.next(feed.batches)
        while number < planned.stop:
            many = len(batch.weight)
            if many not in steps:
                begun = time.perf_counter()
                steps[many] = self._compile(planned, feed, (train, constants, batch))
                since += time.perf_counter() - begun
            train, metrics = self.clock.step(steps[many], train, constants, batch)
            number += many
            waiting.append(metrics)
            if number < planned.stop:  # on its way to the device while that computes
                with leaving_on_failure(partial(self._leave, planned, waiting, since, train, best)):
                    batch = self.clock.next(feed.batches)
            if text := pace.after(number, metrics):
                self._tell("note", number, text=text)
            due = number % self.eval_steps == 0 or number == planned.stop
            fetching = due or sum(len(entry["loss"]) for entry in waiting) >= config.log_every
            if fetching:
                waiting = self._log(planned, number, waiting, since, rest=due)
                since = time.perf_counter()
            if due:
                with self.clock.part("evaluation"):
                    if planned.phase.norm == "recompute":
                        known = recomputed(planned.model, self._used(train), feed.train())
                        train = train._replace(state=known.state)
                    train, best = self._select(planned, train, best, feed.val())
                train = mesh.placed(train, experiment.mesh)
                self._save(train, best, force=False)
                since = time.perf_counter()
                if self._out_of_patience(planned, train):
                    self._tell("note", number, text=early_words(config.patience, self.metric))
                    break
            if self._stops(fetching):
                self._leave(planned, waiting, since, train, best)
                raise interruption(number, experiment.steps)
        return train, best

    def _leave(self, planned: Planned, waiting: list[Any], since: float, *state: Any) -> None:
        """What was trained is told and saved, before the run ends early."""
        if waiting:
            self._log(planned, int(state[0].step), waiting, since, rest=True)
        if int(state[0].step):
            self._save(*state, force=True)

    def _stops(self, fetching: bool) -> bool:
        """Whether a signal asked to stop; processes ask each other where they wait anyway."""
        if not hosts.several():
            return self.asked_to_stop()
        return fetching and hosts.anywhere(self.asked_to_stop())

    def _compile(self, planned: Planned, feed: Feed, arguments: Arguments) -> Any:
        """The phase's step, as another run of the study has compiled it already, or anew."""
        objective = feed.objective(self.experiment.objective(planned))
        step = StepProgram(self.experiment, planned, objective, arguments)
        recipe, number = step.recipe, int(arguments[0].step)
        if (compiled := self.store.programs.get(recipe)) is not None:
            return compiled
        what = f"the step of {planned.phase.name}"
        self._tell("compile", number, what=what, seconds=None)
        with self.clock.part("compile"):
            compiled, seconds = step.compiled()
        self.store.programs.keep(recipe, compiled)
        hosts.anywhere(False)  # devices that meet for the first time wait for half a minute only
        self.compile_seconds += seconds
        self._tell("compile", number, what=what, seconds=seconds)
        return compiled

    def _log(
        self, planned: Planned, number: int, waiting: list[Any], since: float, *, rest: bool
    ) -> list[Any]:
        """Fetch what accumulated on the device until step `number` and log it, `log_every` steps at
        a time; stop if it is not finite. What is left over is returned, or logged with `rest`."""
        experiment, optimizer = self.experiment, self.experiment.config.optimizer
        found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(waiting))
        count = len(found["loss"])
        speed = count * experiment.config.batch_size / max(time.perf_counter() - since, 1e-9)
        pieces, over = cut(found, experiment.config.log_every, rest=rest)
        until = number - count
        for some in pieces:
            until += len(some["loss"])
            if text := left_out(some, until):
                self._tell("warning", until, text=text)
            if why := stopping(some, until):
                raise DivergedError(f"{why} {self._advice()}")
            means = logged(some, experiment.model.head)
            means |= {"learning_rate": rate(optimizer, planned, some, until), self.speed: speed}
            self._tell("train", until, **means)
        return over

    def _used(self, train: TrainState) -> Variables:
        return self.experiment.used(Variables(train.params, train.state))

    def _advice(self) -> str:
        return advice(self.experiment.config.optimizer, self.saved[0])

    def _select(
        self, planned: Planned, train: TrainState, best: Variables, val: Subset | Iterable[Batch]
    ) -> tuple[TrainState, Variables]:
        """Evaluate on validation; keep a copy of the variables if they are the best so far."""
        experiment = self.experiment
        used = self._used(train)
        measured = metrics = evaluated(experiment, planned, used, val).metrics
        if not np.isfinite(list(metrics.values())).all():
            refuse_lost(train, self.experiment.variables, self._advice())
        if self.watch is not None:
            metrics = metrics | self.watch.measure(used)
            train = train._replace(ledger=self.watch.followed(train.ledger, metrics))
        value, loss = np.float32(metrics[self.metric]), np.float32(metrics.get("loss", np.inf))
        so_far, its_loss = np.asarray(train.ledger["best"]), np.asarray(train.ledger["best_loss"])
        step, of_solved = int(train.step), is_solved(experiment.phases, train.ledger["best_step"])
        better = ahead(self.direction, value, loss, so_far, its_loss, of_solved=of_solved)
        self.reached = followed(self.reached, planned, self.direction, value, loss, step)
        better = bool(np.isfinite([value, loss]).all()) if self.keeps == "last" else better
        if better:
            self.val = measured if planned == experiment.final else None
            best = copied(Variables(train.params, train.state))
        ledger = entered(train.ledger, step, value, loss, better=better)
        told = {"metrics": metrics, "best": better, "epoch": step / experiment.steps_per_epoch}
        self._tell("eval", step, split="val", **told)
        train = train._replace(ledger=ledger)
        if self.watch is not None and (why := self.watch.verdict(ledger, metrics)):
            self._save(train, best, force=True)
            raise CollapsedError(f"Stopped at step {step}. {why}")
        return train, best

    def _out_of_patience(self, planned: Planned, train: TrainState) -> bool:
        """Only the last phase ends early: the ones before it prepare what follows."""
        patience = self.experiment.config.patience
        if planned is not self.experiment.phases[-1] or self.keeps != "best" or patience is None:
            return False
        return int(train.ledger["since"]) >= patience

    def _save(self, train: TrainState, best: Variables, *, force: bool) -> None:
        """Begin to save where that is due; with `force`, wait until the step is on disk."""
        step = int(train.step)
        due = time.perf_counter() - self.saved[1] >= self.experiment.config.checkpoint_seconds
        with self.clock.part("checkpoint"):
            if step != self.saved[0] and (force or hosts.anywhere(due)):
                refuse_lost(train, self.experiment.variables, self._advice())
                tree = mesh.placed({"train": train, "best": best}, self.experiment.mesh)
                meta = {"val": self.val, "steps": self.experiment.steps, "reached": self.reached}
                self.checkpoints.begin(step, tree, meta)
                self.saved = (step, time.perf_counter())
            if force:
                self.checkpoints.wait()

    def _tell(self, kind: str, step: int, **data: Any) -> None:
        self.sinks.emit(Event(kind, step, data))
