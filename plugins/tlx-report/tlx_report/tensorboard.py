"""Event files for TensorBoard, written without TensorFlow.

Every number of a run's `train` and `eval` events becomes a scalar under `train/` or the split's
name, at its step, in the folder `tensorboard` of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from tlx.sinks import EVAL, FINISH, START, TRAIN
from tlx.types import Event


@final
class TensorBoard:
    """Scalars in OUT/tensorboard. A resumed run adds a file that hides what an earlier one
    holds beyond the step it resumes at."""

    def __init__(self) -> None:
        self._writer: Any = None

    def emit(self, event: Event) -> None:
        """Open on `start`, write on `train` and `eval`, close on `finish`."""
        if event.kind == START:
            from tensorboardX import SummaryWriter

            self.close()
            folder = Path(event.data["out"]) / "tensorboard"
            purge = event.step + 1 if event.step else None
            self._writer = SummaryWriter(str(folder), purge_step=purge)
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
        self._writer = None

    def _scalars(self, prefix: str, values: Any, step: int) -> None:
        if self._writer:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(f"{prefix}/{name}", float(value), int(step))
