"""What an audit has found: from the folders of its runs to the arms of a verdict, and to what
`result.json` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tlx.config import RunConfig
from tlx.errors import CheckpointError
from tlx.files import plain_arrays
from tlx.run_folder import folder
from tlx.studies import verdict
from tlx.studies.audit_arms import SCRATCH
from tlx.studies.comparison import half_width
from tlx.studies.verdict import Arm


def arms(runs: Mapping[str, Sequence[Mapping[str, Any]]], to: Path, metric: str) -> dict[str, Arm]:
    """What was measured; who was right on which example where that is the metric and all of them
    saw the same ones."""
    tables = {
        name: [_answers(to / name / f"seed-{n}" / folder.ANSWERS) for n in range(len(done))]
        for name, done in runs.items()
    }
    first = tables[SCRATCH][0]
    alike = metric == "accuracy" and all(
        table and all(np.array_equal(table[key], first[key]) for key in ("index", "label"))
        for some in tables.values()
        for table in some
    )
    return {
        name: Arm(
            [each["val"][metric] for each in done],
            [each["test"][metric] for each in done],
            np.stack([t["predicted"] == t["label"] for t in tables[name]]) if alike else None,
            fmean(each["val"]["loss"] for each in done),
        )
        for name, done in runs.items()
    }


def _answers(path: Path) -> dict[str, np.ndarray]:
    """Empty where the head predicts no class. Raises CheckpointError for a damaged file."""
    if not path.exists():
        return {}
    try:
        with path.open("rb") as stream:
            found = plain_arrays.arrays(stream)
        if len({found[name].shape for name in ("index", "label", "predicted")}) == 1:
            return found
    except Exception:  # damaged bytes make zipfile and NumPy raise anything
        pass  # said below
    raise CheckpointError(
        f"{path} is damaged. Remove the folder {path.parent} and use --resume: this run is trained "
        f"again."
    )


def row(
    name: str,
    measured: Mapping[str, Arm],
    runs: Sequence[Mapping[str, Any]],
    tuned: Mapping[str, Any],
    direction: str,
) -> dict[str, Any]:
    """One arm as `tlx.sinks` lists it."""
    own = measured[name]
    against = (
        None if name == SCRATCH else verdict.compared(own, measured[SCRATCH], direction).paired
    )
    return {
        "arm": name,
        **tuned,
        "val": fmean(own.val),
        "test": fmean(own.test),
        "half": half_width(own.test),
        "values": list(own.test),
        "gain": None if against is None else against.mean,
        "gain_half": None if against is None else verdict.finite(against.half),
        "moved": _moved(runs),
        "trained_parameters": runs[0]["trainable_parameters"],
        "seconds": round(sum(each["seconds"] for each in runs), 3),
    }


def _moved(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """How far the backbone went from the source, the mean over seeds; None without a source."""
    found = [run["forgetting"]["drift"]["backbone"] for run in runs if run.get("forgetting")]
    return fmean(found) if found else None


def summed_up(
    base: RunConfig, found: Sequence[Mapping[str, Any]], seeds: int, resplit: bool, seconds: float
) -> dict[str, Any]:
    """What `result.json` holds: the last setting's verdict, with all labels that were asked for,
    and the curve over label counts."""
    last = found[-1]
    texts, advice = [last["text"]], list(last["advice"])
    caught = None
    if len(found) > 1:
        texts = [f"With {verdict.worded(each['labels'])}: {each['text']}" for each in found]
        caught, said = verdict.catching_up([(each["labels"], each["verdict"]) for each in found])
        texts.append(said)
    return {
        "name": base.name,
        "metric": last["metric"],
        "direction": last["direction"],
        "verdict": last["verdict"],
        "text": " ".join(texts),
        "catches_up": caught,
        "advice": advice,
        "settings": list(found),
        "seeds": seeds,
        "resplit": resplit,
        "seconds": round(seconds, 3),
    }
