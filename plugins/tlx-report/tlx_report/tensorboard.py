"""Event files for TensorBoard, written without TensorFlow.

Every number of a run's `train` and `eval` events becomes a scalar under `train/` or the split's
name, at its step, in the folder `tensorboard` of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from tlx.sinks import EVAL, FINISH, START, TRAIN
from tlx.types import Event


@final
class TensorBoard:
    """Scalars in OUT/tensorboard. A resumed run adds a file that hides what an earlier one
    holds from the first step on that it tells of."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._writer: Any = None

    def emit(self, event: Event) -> None:
        """Write on `train` and `eval`, the first of which opens a file; close on `finish`."""
        if event.kind == START:
            self.close()
            self._folder = Path(event.data["out"]) / "tensorboard"
        elif event.kind == TRAIN:
            self._scalars("train", event.data, event.step)
        elif event.kind == EVAL:
            self._scalars(str(event.data["split"]), event.data["metrics"], event.step)
        elif event.kind == FINISH:
            self.close()

    def close(self) -> None:
        """Flush and close; harmless when nothing is open."""
        if self._writer:
            self._writer.close()
        self._folder = self._writer = None

    def _scalars(self, prefix: str, values: Mapping[str, Any], step: int) -> None:
        if self._folder is None:
            return
        if self._writer is None:
            from tensorboardX import SummaryWriter

            earlier = any(self._folder.glob("events*"))
            self._writer = SummaryWriter(str(self._folder), purge_step=step if earlier else None)
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{prefix}/{name}", float(value), int(step))
