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
from tlx.run_file.run_config import DataConfig
from tlx.run_folder.folder import RUN_FILE


def trained_on(target: str, sources: Sequence[str]) -> list[str]:
    """A sentence for each of the sources that is the folder of a run on the target, which is named
    as for `tlx finetune`."""
    ours, notes = _whose(configs.parse(finetune.table(target)).data), []
    for source in sources:
        file = Path(source).expanduser() / RUN_FILE
        run = configs.read(file) if file.is_file() else None
        if run is None or _whose(run.data) != ours:
            continue
        notes.append(
            f"The run {source} has learnt from these pictures, without their labels: its scores "
            f"may be higher here than on pictures that it has not seen."
            if run.head is None
            else f"The run {source} was trained on these data, so it has seen the labels that it "
            f"is scored by: its scores mean nothing here."
        )
    return notes


def _whose(data: DataConfig) -> tuple[str, dict[str, Any]]:
    """The name and the options of a data set."""
    name, colon, rest = data.name.partition(":")
    return f"{name}{colon}{_place(rest)}", {k: _place(v) for k, v in data.options.items()}


def _place(value: Any) -> Any:
    """Where a file or folder lies; everything else as it is."""
    if isinstance(value, str) and value and Path(value).exists():
        return str(Path(value).resolve())
    return value
