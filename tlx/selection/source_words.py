"""What a source model says of a target's pictures: the words of scores, each computed once.

The pictures go through the network a single time for all scores; what no score asks for is not
computed. They are seen as the source's own preprocessing has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.data.collate import collate_ports
from tlx.data.inputs import bind_inputs, fit_inputs
from tlx.data.splits import Subset
from tlx.devices.compiled import compiled
from tlx.errors import ScoreError
from tlx.model import pooled
from tlx.numerics.linear_probe import answers, fitted
from tlx.selection.candidates import Candidate
from tlx.selection.task_embedding import task_embedding
from tlx.stream import evaluation
from tlx.types import Batch, DataInfo, Features, Variables

BATCH = 64
EMBEDDED = 128
"""Pictures that a task embedding takes gradients of."""


class Target(NamedTuple):
    """The pictures that sources are ranked on; labels are numbers of `info.classes`."""

    info: DataInfo
    part: Subset

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return self.part.labels.astype(np.int64)


class Seen(NamedTuple):
    """`features` (N,D) float64; `outputs` (N,Z) probabilities, None without a head of classes;
    `seconds` that it took."""

    features: np.ndarray
    outputs: np.ndarray | None
    seconds: float


@final
@dataclass(frozen=True, eq=False)
class SourceWords:
    """The words of scores for one source and one target."""

    candidate: Candidate
    target: Target
    seed: int = 0

    def __getitem__(self, word: str) -> Any:
        """The value of a word of `tlx.contracts.scoring`. ScoreError where this source does not
        have it."""
        target, source = self.target, self.candidate.source
        found: dict[str, Callable[[], Any]] = {
            "features": lambda: self.seen.features,
            "labels": lambda: target.labels,
            "classes": lambda: len(target.info.classes),
            "source_outputs": lambda: self._outputs,
            "task_embedding": lambda: self._task,
            "source_task_embedding": lambda: self._source_task,
            "parameters": lambda: self.candidate.parameters,
            "source_accuracy": lambda: self.candidate.accuracy,
            "seed": lambda: self.seed,
        }
        value = found[word]()
        if value is None and word == "source_accuracy":
            raise ScoreError("Its accuracy on its own test data is not known.")
        if value is None:
            headless = source.model.head is None
            why = "no head of its own" if headless else "a head that does not choose one class"
            raise ScoreError(f"It has {why}.")
        return value

    @cached_property
    def feature(self) -> str:
        """The feature that a head would read: its own head's, `pooled`, or else the last."""
        model = self.candidate.source.model
        if model.head is not None and len(model.head.needs) == 1:
            return model.head.needs[0]
        names = [spec.name for spec in model.backbone.features]
        return "pooled" if "pooled" in names else names[-1]

    @cached_property
    def seen(self) -> Seen:
        """One pass over the pictures. ScoreError for features that are not finite."""
        model, variables = self.candidate.source[:2]

        def run(variables: Variables, batch: Batch) -> tuple[Array, Any]:
            passed = model.apply(variables, batch, rng=jax.random.key(0), mode="eval")
            said = model.predict(passed.outputs)
            probabilities = said.get("probabilities") if "class" in said else None
            return pooled(passed.features[self.feature]), probabilities

        begun, program = perf_counter(), compiled(run)
        parts = [
            (np.asarray(f)[keep], None if p is None else np.asarray(p)[keep])
            for batch in self.batches()
            for keep in [batch.weight > 0]
            for f, p in [program(variables, batch._replace(targets={}))]
        ]
        features = np.concatenate([f for f, _ in parts]).astype(np.float64)
        told = [np.asarray(p, np.float64) for _, p in parts if p is not None]
        outputs = np.concatenate(told) if told else None
        if outputs is not None:  # they add up to 1 in float32 only
            outputs /= outputs.sum(1, keepdims=True)
        if not np.isfinite(features).all():
            raise ScoreError("Its features of these pictures are not finite.")
        return Seen(features, outputs, perf_counter() - begun)

    def batches(self, most: int | None = None) -> Any:
        """Batches of the pictures on this source's canvas; of `most` of them, spread evenly."""
        part, info = self.target.part, self.target.info
        ports = {p.name: p.input for p in self.candidate.source.model.ports}
        bound = fit_inputs(bind_inputs(ports, info), info, part)
        if most is not None and len(part) > most:
            spread = np.linspace(0, len(part) - 1, most).astype(int)
            part = part.at(spread)
        return evaluation(part, collate_ports(bound, info), batch_size=min(BATCH, len(part)))

    @property
    def _outputs(self) -> np.ndarray | None:
        return self.seen.outputs

    @cached_property
    def _task(self) -> np.ndarray:
        """The target's task: a logistic head on the feature, fitted to all pictures."""
        labels = self.target.labels
        features = jnp.asarray(self.seen.features, jnp.float32)
        fit = jax.jit(fitted, static_argnames="classes")
        probe = fit(features, jnp.asarray(labels), classes=len(self.target.info.classes))

        def answer(probe: Any, features: Features, batch: Batch) -> Array:
            return answers(probe, pooled(features[self.feature]))

        return self._embedded(answer, probe)

    @cached_property
    def _source_task(self) -> np.ndarray | None:
        """The task of the source's own head."""
        model, variables = self.candidate.source[:2]
        if self.seen.outputs is None:
            return None

        def answer(head: Any, features: Features, batch: Batch) -> Array:
            numbers = Variables(*({"head": part} for part in head))
            how: Any = {"rng": jax.random.key(0), "mode": "eval"}
            return model.apply_head(numbers, features, inputs=batch.inputs, **how)[0]

        return self._embedded(answer, (variables.params["head"], variables.state["head"]))

    def _embedded(self, answer: Any, head: Any) -> np.ndarray:
        model, variables = self.candidate.source[:2]
        batches = self.batches(EMBEDDED)
        return task_embedding(model, variables, answer, head, batches, seed=self.seed)
