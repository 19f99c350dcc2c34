"""Many runs as one: the variants of a run file on the same split, each in a folder of its own.

Every variant is resumable by itself; the study ends with one comparison, in the terminal, in the
report and in `result.json`. A run without variants is a study of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx import config as configs
from tlx import folder, registry
from tlx.config import RunConfig
from tlx.console import Console
from tlx.protocols import Sink
from tlx.run_one import evaluate_run, run_one
from tlx.sinks import Sinks
from tlx.types import Event


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train what a run file, a table of the same shape or a RunConfig says.

    Writes to `out`, else the run file's `out`, else `runs/<name>`. Returns what `result.json`
    holds: the result of the run, or `{"variants": {name: result}, ...}`."""
    if isinstance(config, str | Path):
        config = configs.read(config)
    elif not isinstance(config, RunConfig):
        config = configs.parse(config, "the table given to tlx.run")
    configs.check(config)
    variants = configs.expand(config)
    to = Path(out) if out else folder.of(config)
    resume = folder.claim(to, config, resume=resume, overwrite=overwrite)
    console = Console()
    if not config.variant:
        return run_one(config, to, console, resume=resume)
    results = {}
    for number, (name, variant) in enumerate(variants, start=1):
        into = to / name
        going_on = folder.claim(into, variant, resume=resume, overwrite=False)
        results[name] = run_one(
            variant,
            into,
            console,
            resume=going_on,
            variant={"name": name, "number": number, "of": len(variants)},
        )
    return _compare(config, to, results, console)


def evaluate(run: str | Path) -> dict[str, Any]:
    """Metrics of a finished run's model on `val` and `test`, computed anew.

    `run` is a run's folder, or the run file whose run lies where it writes. For a study, the
    metrics of each variant by name."""
    config = configs.read(run)
    out = Path(run) if Path(run).is_dir() else folder.of(config)
    if config.variant:
        parts = configs.expand(config)
        return {name: evaluate_run(out / name) for name, _ in parts}
    return evaluate_run(out)


def _compare(
    config: RunConfig, out: Path, results: Mapping[str, Any], console: Sink
) -> dict[str, Any]:
    """Tell the sinks and `result.json` how the variants did beside each other."""
    metric, direction = next(iter(results.values()))["selection"]
    rows = [_row(name, result, metric) for name, result in results.items()]
    text = _sentence(results, metric, direction)
    study = {"name": config.name, "metric": metric, "text": text, "variants": dict(results)}
    folder.write_json(out / folder.RESULT, study)
    sinks = Sinks([
        console,
        *(registry.build("sinks", part.name, part.options) for part in config.sink),
    ])  # fmt: skip
    try:
        best = out / _order(results, metric, direction, "val")[0]
        ways = [f"tlx predict {best} IMAGE...", f"tlx eval {out}"]
        about = {**study, "out": str(out), "rows": rows, "next": ways}
        sinks.emit(Event("study", 0, about))
    finally:
        sinks.close()
    return study


def _row(name: str, result: Mapping[str, Any], metric: str) -> dict[str, Any]:
    value = result["test"][metric]
    row = {
        "variant": name,
        "test": value,
        "val": result["val"][metric],
        "trainable": result["trainable_parameters"],
        "seconds": result["seconds"],
    }
    if metric == "accuracy":
        low, high = wilson(value, result["examples"]["test"])
        row |= {"low": low, "high": high}
    return row


def _sentence(results: Mapping[str, Any], metric: str, direction: str) -> str:
    """The comparison in words: who is ahead, and whether the intervals keep apart."""
    order = _order(results, metric, direction)
    best, last = order[0], order[-1]
    top, bottom = (results[name]["test"][metric] for name in (best, last))
    if top == bottom:
        return f"All have the same {metric} on the test split, {_said(top, metric)}. One seed each."
    text = f"{best} is ahead on the test split with {metric} {_said(top, metric)}"
    if metric != "accuracy":
        return f"{text}; {last} comes last with {_said(bottom, metric)}."
    examples = results[best]["examples"]["test"]
    text += (
        f"; {last} comes last with {_said(bottom, metric)}, {100 * (top - bottom):.1f} points less"
    )
    close = [
        name
        for name in order[1:]
        if wilson(results[name]["test"][metric], results[name]["examples"]["test"])[1]
        >= wilson(top, examples)[0]
    ]
    if close:
        text += (
            f". With {examples} test examples it cannot be told apart from {' and '.join(close)}"
        )
    return f"{text}. One seed each."


def _order(
    results: Mapping[str, Any], metric: str, direction: str, split: str = "test"
) -> list[str]:
    """The variants, best first."""
    return sorted(
        results, key=lambda name: results[name][split][metric], reverse=direction == "max"
    )


def _said(value: float, metric: str) -> str:
    return f"{100 * value:.1f} %" if metric == "accuracy" else f"{value:.4g}"


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share observed in `count` trials (Wilson 1927)."""
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (centre - half) / scale, (centre + half) / scale
