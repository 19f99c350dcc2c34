"""What a run tells the outside: the events, the fan-out to sinks, and `metrics.jsonl`.

A run emits `Event(kind, step, data)` to `Sinks`, which hands it to each sink and outlives any of
them. The kinds are a closed list; `step` is the number of updates done so far. Values may be
numpy or jax scalars; a key marked ? may be absent or None.

| kind | data |
| --- | --- |
| `start` | `out` folder; `device` words; `name`; `config` the resolved run file; `data` {`name`, |
|         | `classes` names, `sizes` {split: count}, `counts`? {split: {class: count}}, `notes`? |
|         | sentences}; `backbone` {`name`, |
|         | `parameters`}; `weights`? {`name`, `loaded` count, `initialised` [(leaf, why)], |
|         | `skipped` [(name, why)], `prefix`?, `sha256`?}; `trainable` and `total` |
|         | parameters; `phases` |
|         | [{`name`, `steps`, `trainable`, `norm`, `frozen_stages` count, `solved`?}]; |
|         | `patience`?; `random`? words, without weights; `divergences` |
|         | [{`name`, `weight`, `words`}]; `selection`? (metric, 'max' or 'min'); `variant`? |
|         | {`name`, `number` from 1, `of`}. A resumed run says it again |
| `compile` | `what`; `seconds`, None when it begins (telling that is optional) |
| `phase` | `name`, `steps`, `trainable`, `first_step` |
| `train` | `loss`, `task`, `learning_rate`, `divergence/<name>`, |
|         | `divergence/<name>/weighted`, `accuracy`?, `images_per_second`, or where a step is |
|         | fed what was kept of a frozen prefix `features_per_second`; `skipped`? updates left |
|         | out since the run began |
| `eval` | `split`, `metrics` {name: value}, `best`, `epoch`? |
| `note`, `warning` | `text` |
| `finish` | `result` (what result.json holds); `confusion`? (C,C) counts, rows are the truth; |
|          | `samples`? [{`image` (H,W,3) uint8 or `text`, `label`, `predicted`, `probability`?}] |
|          | of the test split; `training`? {class: [(H,W,C) uint8 or text]}, some of each class; |
|          | `curves` path of metrics.jsonl; `next` sentences. Of a run without |
|          | labels, of the validation split: `drawn`? {title: (n,H,W,3) uint8}, in order; |
|          | `neighbours`? {`pictures` (n,H,W,3), `nearest` (n,k,H,W,3), both uint8, the latter |
|          | training pictures with the nearest first, |
|          | `labels` (n,) and `nearest_labels` (n,k) or None}; `features`? {`before`, `after` |
|          | (N,D), `labels` (N,) or None} |
| `study` | `out`; `name`; `rows` [{`variant`, `domain`?, `test`, `val`?, `low`? and `high`? of |
|         | `domain`, or else of `test`, |
|         | any further column}] in order; `metric`? that these are; `variants` {name: result}; |
|         | `text` one sentence that compares; `next`? sentences |
| `sweep` | `out`; `name`; `metric`, `direction`; `axes` [{`key`, `values`, `ends`?, `log`}]; |
|         | `seeds`; `points` [{`point` {key: value}, `mean`, `half`? of its interval, `values` of |
|         | the metric on validation with each seed; None where one diverged; `kept`? of the |
|         | source, where a divergence's weight is an axis, means over seeds: {`moved`, |
|         | `agreement`?, `source`? and its `name`, `metric`, `direction`, `before`}}]; |
|         | `chosen` {key: value}; `test` {metric: mean, `half`?, `values`}, `domain`? the same; |
|         | `next`? sentences |
| `audit` | `out`; `name`; `metric`, `direction`; `verdict` 'helps', 'no evidence' or 'hurts'; |
|         | `text` sentences; `advice` sentences; `settings` [{`labels` of each class, 'all' or |
|         | None, `verdict`, `best` arm, `gain`, `half`? of its interval, `p`, `crossed`? the |
|         | interval knows examples too, `metric`, `text`?, `arms` [{`arm`, `rate`, `tried`, |
|         | `solved`?, `val`, `test` means, `half`?, `values` one a seed, `gain`?, `gain_half`? |
|         | over scratch, `moved`?, `trained_parameters`, `seconds`}]}]; `seeds`; `resplit`; |
|         | `next`? sentences |
| `rank` | `out`; what `tlx.rank` returns: `target`; `pictures`; `classes`; `by` the score that |
|         | decides; `sources` [{`source`, `parameters`, `accuracy`?, `classes`?, `features`?, |
|         | `seconds`?}]; `scores` [{`score`, `rows` [{`source`, `value`, `low`?, `high`?, |
|         | `halves`, `rank`, `behind`, `behind_half`?, `apart`?, `seconds`}], `unavailable` |
|         | [{`source`, `why`}]}]; `similarity` [{`measure`, `names`, `matrix`, `text`}]; `text`; |
|         | `notes`? sentences |
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, final

from tlx.errors import ContractError, did_you_mean, listed
from tlx.protocols import Sink
from tlx.reporting.wording import plain
from tlx.types import Event

START, COMPILE, PHASE, TRAIN, EVAL = "start", "compile", "phase", "train", "eval"
NOTE, WARNING, FINISH = "note", "warning", "finish"
STUDY, SWEEP, RANK, AUDIT = "study", "sweep", "rank", "audit"
KINDS = (START, COMPILE, PHASE, TRAIN, EVAL, NOTE, WARNING, FINISH, STUDY, SWEEP, RANK, AUDIT)


@final
@dataclass
class Sinks:
    """A sink that passes every event on. One that raises is reported once and dropped: what
    listens to a run must not be able to end it."""

    listeners: Sequence[Sink]

    def emit(self, event: Event) -> None:
        """Tell everyone. Raises ContractError for a kind that is not in `KINDS`."""
        if event.kind not in KINDS:
            raise ContractError(
                f"A run emitted an event of kind {event.kind!r}."
                f"{did_you_mean(event.kind, KINDS)} Kinds: {listed(KINDS)}."
            )
        self._each("emit", event)

    def close(self) -> None:
        """Close everyone; nobody hears anything afterwards."""
        self._each("close")
        self.listeners = ()

    def _each(self, what: str, *event: Event) -> None:
        for sink in tuple(self.listeners):
            if not any(sink is s for s in self.listeners):
                continue  # dropped meanwhile, while it was told of another's failure
            try:
                getattr(sink, what)(*event)
            except (Exception, SystemExit) as e:
                self.listeners = tuple(s for s in self.listeners if s is not sink)
                text = (
                    f"The sink {type(sink).__name__} failed and is dropped for the rest of the "
                    f"run, which goes on: {type(e).__name__}: {e}"
                )
                step = event[0].step if event else 0
                self._each("emit", Event(WARNING, step, {"text": text}))


@final
class Jsonl:
    """`metrics.jsonl` in the run's folder: one object per `train` and `eval` event, with `kind`
    and `step` beside its data. A resumed run keeps the lines before the first step it tells
    of, so that the file reads as if nothing had happened."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: TextIO | None = None

    def emit(self, event: Event) -> None:
        """Write and flush a line on `train` and `eval`; the first opens the file."""
        if event.kind == START:
            self.close()
            self._path = Path(event.data["out"]) / "metrics.jsonl"
        elif event.kind in (TRAIN, EVAL) and self._path:
            self._file = self._file or _kept_before(int(event.step), self._path)
            line = {"kind": event.kind, "step": int(event.step), **plain(event.data)}
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; harmless when there is none."""
        if self._file:
            self._file.close()
        self._path = self._file = None


def _kept_before(step: int, path: Path) -> TextIO:
    """The file opened for more lines, without those from `step` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [line for line in read_jsonl(path) if line["step"] < step]
    part = path.with_name(path.name + ".part")
    part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
    return path.open("a", encoding="utf-8")


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` up to the first that is damaged, as the last one that was cut
    off by a crash; empty where there is no file."""
    path, found = Path(path), []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(event, dict) or not isinstance(event.get("step"), int):
            break
        found.append(event)
    return found
