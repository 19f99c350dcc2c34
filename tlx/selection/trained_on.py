"""Whether a run was trained on the data that it is about to be judged by.

Its features have seen the labels then, and whatever is measured with these labels means nothing;
or, of a run without a head, the pictures alone.
Data are the same where a run file names them alike, files by where they really lie. Opens without
importing jax or numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlx import config as configs
from tlx.run_file import finetune
from tlx.run_file.run_config import RunConfig
from tlx.run_folder.folder import RUN_FILE
from tlx.run_folder.locations import absolute


def trained_on(target: str, sources: Sequence[str]) -> list[str]:
    """A sentence for each of the sources that is the folder of a run on the target, which is named
    as for `tlx finetune`."""
    ours, notes = _whose(configs.parse(finetune.table(target))), []
    for source in sources:
        file = Path(source).expanduser() / RUN_FILE
        run = configs.read(file) if file.is_file() else None
        if run is None or _whose(run) != ours:
            continue
        notes.append(
            f"The run {source} has learnt from these pictures, without their labels: its scores "
            f"may be higher here than on pictures that it has not seen."
            if run.head is None
            else f"The run {source} was trained on these data, so it has seen the labels that it "
            f"is scored by: its scores mean nothing here."
        )
    return notes


def _whose(run: RunConfig) -> tuple[str, dict[str, Any]]:
    """The name and the options of a run's data set."""
    data = absolute(run).data
    return data.name, {key: _place(value) for key, value in data.options.items()}


def _place(value: Any) -> Any:
    """Where a file or folder lies, links followed; everything else as it is."""
    if isinstance(value, str) and value and Path(value).exists():
        return str(Path(value).resolve())
    return value
