"""The labels in the tables of `datasets`: which columns hold them, and what they say.

A ClassLabel names its classes itself, alone or in a list; other columns hold names, numbers or
lists of them, which are what the head takes them for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import DataError
from tlx.types import LabelKind
from tlx_data.label_rules import Labels, Place, class_list
from tlx_data.labels import read_labels


def class_names(features: Sequence[Any]) -> tuple[str, ...] | None:
    """The classes that the only column of labels names itself, as a class or in a list; None where
    it does not, or there are several columns."""
    if len(features) != 1:
        return None
    names = getattr(getattr(features[0], "feature", features[0]), "names", None)
    return None if names is None else tuple(names)


def is_list(feature: Any) -> bool:
    """Whether a column holds a list for each example."""
    return hasattr(feature, "feature")


def written_cells(table: Any, columns: Sequence[str]) -> list[Any]:
    """The cell of each example, of several columns a mapping; nothing where the table lacks one."""
    if any(name not in table.features for name in columns):
        return []
    plain = table.with_format(None)  # as saved, a table may be set to give tensors
    if len(columns) == 1:
        return list(plain[columns[0]][:])
    values = [plain[name][:] for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def is_unlabelled(cells: Sequence[Any], names: tuple[str, ...] | None) -> bool:
    """Whether no example has a label; sets of competitions keep those of their test split."""

    def missing(cell: Any) -> bool:
        if isinstance(cell, Mapping):
            return all(value is None for value in cell.values())
        return cell is None or (names is not None and cell == -1)

    return all(map(missing, cells))


def labels_of(
    written: Mapping[str, Sequence[Any]],
    place: Place,
    *,
    kind: LabelKind | None,
    named: tuple[str, ...] | None,
    listed: bool,
    names: tuple[str, ...] | None,
    separator: str,
) -> Labels:
    """The labels of each split as arrays. `named` are the classes that the column names itself,
    and `listed` says that it holds lists; `names` are those of a run file."""
    if named is None:
        names = None if names is None else class_list(names, "class_names")
        return read_labels(written, place, kind=kind, names=names, separator=separator)
    for split, each in written.items():
        for i, cell in enumerate(each):
            numbers = cell if listed and cell is not None else [cell]
            if any(number is None or not 0 <= number < len(named) for number in numbers):
                raise DataError(f"{place(split, i)} has no label, while others have one.")
    if not listed:
        return Labels(named, {split: np.asarray(each, np.int32) for split, each in written.items()})
    said = {split: [[named[n] for n in cell] for cell in each] for split, each in written.items()}
    kind = "class" if kind == "class" else "multilabel"
    return read_labels(said, place, kind=kind, names=named)
