"""What to type next: the command that asks a model, with what it is given."""

from __future__ import annotations

from pathlib import Path

from tlx.errors import TlxError
from tlx.run_folder.model_folder import describe


def predict_command(run: Path) -> str:
    """`tlx predict RUN IMAGE...`, or TEXT..., of a run that has left its model."""
    try:
        kind = describe(run).ports[0].input.kind
    except TlxError:  # it lies on another host's disk
        kind = "value"
    return f"tlx predict {run} {kind.upper()}..."
