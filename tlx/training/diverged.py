"""Training that has diverged, in a sentence: which part of the loss is not finite and since when.

Metrics come as the device left them, one value for each step, so the first bad step is known
exactly, however many steps are logged together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tlx.devices import hosts
from tlx.devices.not_finite import FACTOR, IN_A_ROW, TOTAL, lost
from tlx.errors import DivergedError, listed
from tlx.run_file.run_config import OptimizerConfig
from tlx.types import TrainState, Variables

MOST = 20
"""So many updates in a row are left out before a run stops."""


def stopping(found: Mapping[str, Any], until: int) -> str:
    """Why a run has to stop, for the metrics (K,) of the steps up to `until`; '' where it need not.

    Where no updates are left out, because something is not finite; else, because too many in a row
    were."""
    first = until - len(found["loss"]) + 1
    if "skipping" in found:
        many = found["skipping"][IN_A_ROW]
        if many.max() < MOST:
            return ""
        at = int(np.argmax(many >= MOST))
        return (
            f"{MOST} updates in a row had to be left out, the last at step {first + at}: "
            f"{_said(found, at)}."
        )
    bad = _bad(found)
    if not bad.any():
        return ""
    at = int(np.argmax(bad))
    words = _said(found, at)
    before = f"; the loss was {found['loss'][at - 1]:.4g} a step before" if at else ""
    return f"{words[0].upper()}{words[1:]} at step {first + at}{before}."


def left_out(found: Mapping[str, Any], until: int) -> str:
    """What is said of updates that were left out up to `until`; '' where there are none."""
    out = out_of(found)
    if not out.any():
        return ""
    first, at = until - len(out) + 1, int(np.argmax(out))
    counts = {name: values[-1] for name, values in found["skipping"].items()}
    rate = f" The learning rate is down to {counts.get(FACTOR, 1):.3g} of itself."
    return (
        f"{out.sum()} of the {len(out)} updates up to step {until} left out, {counts[TOTAL]} in "
        f"all: {_said(found, at)} at step {first + at}."
        f"{rate if FACTOR in counts else ''}"
    )


def out_of(found: Mapping[str, Any]) -> np.ndarray:
    """(K,) bool: which updates were left out."""
    if "skipping" not in found:
        return np.zeros(len(found["loss"]), bool)
    return np.asarray(found["skipping"][IN_A_ROW]) > 0


def refuse_lost(train: TrainState, start: Variables, advice: str) -> None:
    """Raise DivergedError for a state with numbers that are not finite, of a step whose loss is:
    they are to be neither the best step's nor a checkpoint's. See `tlx.devices.not_finite.lost`."""
    gone = lost(train, start)
    if hosts.anywhere(bool(gone)):
        which = gone[0] if gone else "what another process holds"
        more = f" and {len(gone) - 1} more leaves" if len(gone) > 1 else ""
        raise DivergedError(
            f"The gradient at step {int(train.step)}, or the update that it led to, is not finite, "
            f"though the loss is: {which}{more} cannot be used. {advice}"
        )


def advice(optimizer: OptimizerConfig, saved: int) -> str:
    """What to do about it, and what is left of the run; `saved`: its last step on disk, or -1."""
    leave = ', or on_nan = "skip" to go on without such updates'
    clip = "set clip" if optimizer.clip is None else f"clip (now {optimizer.clip:g})"
    return (
        f"Lower [optimizer] learning_rate (now {optimizer.learning_rate:g}) or {clip}"
        f"{leave if optimizer.on_nan == 'stop' else ''}. "
        + (
            f"The last checkpoint, of step {saved}, is finite."
            if saved >= 0
            else "Nothing was saved yet."
        )
    )


def _parts(found: Mapping[str, Any]) -> list[str]:
    return [name for name in found if name not in ("measure", "skipping")]


def _bad(found: Mapping[str, Any]) -> np.ndarray:
    return np.any([~np.isfinite(found[name]) for name in _parts(found)], axis=0)


def _said(found: Mapping[str, Any], at: int) -> str:
    """The parts that are not finite at an entry, in words; the gradient where all of them are."""
    bad = {name: found[name][at] for name in _parts(found) if not np.isfinite(found[name][at])}
    whole = bad.pop("loss", None)
    words = []
    for name, value in bad.items():
        part = name.removesuffix("/weighted")
        if part != name and part in bad:
            continue
        called = part.removeprefix("divergence/")
        weighted = "the weighted divergence" if part != name else "the divergence"
        words.append(
            f"the task loss is {value}" if name == "task" else f"{weighted} {called!r} is {value}"
        )
    if not words:
        return "the gradient is not finite" if whole is None else f"the sum of the loss is {whole}"
    return listed(words)
