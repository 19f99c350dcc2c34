"""One class for each example, called as its label is spelled.

Without `class_names` the classes are the different labels in order: by number where all are whole
numbers, else by the alphabet. With them, a label is one of the names or the number of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import DataError, did_you_mean
from tlx_data import label_cells as cells
from tlx_data.label_rules import (
    Labels,
    Place,
    Written,
    refuse_likely_numbers,
    refuse_missing,
    refuse_unlearnt,
    shortened,
)


def class_labels(
    written: Written, place: Place, names: Sequence[str] | None, separator: str = "|"
) -> Labels:
    """(N,) int32 for each split. Raises DataError for a label that is missing or no class."""
    kept = tuple(names or ())
    whole = {
        split: [_single(cell, place, split, i) for i, cell in enumerate(each)]
        for split, each in written.items()
    }
    refuse_missing(whole, place, kept)
    spelled: dict[str, list[str]] = {
        split: [_name(cell, place, split, i) for i, cell in enumerate(each)]
        for split, each in whole.items()
    }
    if names is not None:
        return Labels(kept, _among(spelled, place, kept))
    classes, notes = _found(spelled, place, separator)
    number = {name: i for i, name in enumerate(classes)}
    values = {s: np.asarray([number[v] for v in each], np.int32) for s, each in spelled.items()}
    return Labels(classes, values, notes=notes)


def _single(cell: Any, place: Place, split: str, i: int) -> Any:
    """The one label of a cell; of one-hot columns, the name of the one that is 1."""
    if isinstance(cell, Mapping):
        flags = {name: cells.as_number(value) for name, value in cell.items()}
        there = [name for name, flag in flags.items() if flag == 1]
        if len(there) == 1 and all(flag in (0, 1) for flag in flags.values()):
            return there[0]
        raise DataError(
            f"{place(split, i)} has the labels {cells.quoted(cell)}. A class in several columns "
            f"is 1 in one of them and 0 in the others; where several apply at once, "
            f'head = "multilabel" learns them, and numbers are for head = "regression".'
        )
    if isinstance(cell, list | tuple):
        if len(cell) == 1:
            return cell[0]
        raise DataError(
            f"{place(split, i)} has {len(cell)} labels, {cells.quoted(cell)}, and this head takes "
            f'one class for each example. Several at once are learnt by head = "multilabel".'
        )
    return cell


def _name(cell: Any, place: Place, split: str, i: int) -> str:
    name = cells.as_name(cell)
    if name is None:
        raise DataError(
            f"{place(split, i)} has the label {cells.quoted(cell)} ({type(cell).__name__}); a "
            f"label is a class name or a number."
        )
    return name


def _among(
    spelled: Mapping[str, Sequence[str]], place: Place, names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    number = {name: i for i, name in enumerate(names)}
    every = [name for each in spelled.values() for name in each]
    counted = {name: cells.class_number(name) for name in dict.fromkeys(every)}
    named = all(name in number for name in counted)
    in_range = all(n is not None and n < len(names) for n in counted.values())
    if named and in_range and any(number[name] != n for name, n in counted.items()):
        wrong = next(name for name, n in counted.items() if number[name] != n)
        raise DataError(
            f"The label {wrong} can be read as the class called {wrong!r}, which is number "
            f"{number[wrong]} of class_names, or as class number {wrong}, called "
            f"{names[counted[wrong] or 0]!r}. Call the classes something else than numbers."
        )
    if not named and not in_range:
        _refuse_unknown(spelled, place, names, counted)
    taken = number if named else counted
    return {s: np.asarray([taken[v] for v in each], np.int32) for s, each in spelled.items()}


def _refuse_unknown(
    spelled: Mapping[str, Sequence[str]],
    place: Place,
    names: tuple[str, ...],
    counted: Mapping[str, int | None],
) -> None:
    numbers = all(n is not None for n in counted.values())
    for split, each in spelled.items():
        for i, name in enumerate(each):
            n = counted[name]
            fits = n is not None and n < len(names) if numbers else name in names
            if not fits:
                raise DataError(
                    f"{place(split, i)} has the label {name!r}, which is none of the {len(names)} "
                    f"classes {shortened(names)} and no number of one.{did_you_mean(name, names)}"
                )


def _found(
    spelled: Mapping[str, Sequence[str]], place: Place, separator: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes in order, and what was decided about them."""
    count = Counter(name for each in spelled.values() for name in each)
    numbers = [name for name in count if cells.is_number(name)]
    all_numbers = len(numbers) == len(count)
    for split, each in spelled.items():
        below = next((i for i, n in enumerate(each) if n[:1] == "-"), None) if all_numbers else None
        if below is not None and each[below][1:].isdecimal():
            raise DataError(
                f"{place(split, below)} has the label {each[below]}; classes are numbered from 0, "
                f"and a number below often stands for a missing label. Take such examples out, "
                f"list the classes as class_names, or predict numbers with head = "
                f'"regression".'
            )
    refuse_likely_numbers(count)
    lead = dict.fromkeys(spelled.get("train") or count)
    whole = all(cells.CANONICAL.fullmatch(name) for name in lead)
    classes = tuple(sorted(lead, key=int) if whole else sorted(lead))
    refuse_unlearnt({s: [(n,) for n in each] for s, each in spelled.items()}, place, classes)
    return classes, tuple(_notes(classes, numbers, separator))


def _notes(classes: tuple[str, ...], numbers: Sequence[str], separator: str) -> list[str]:
    notes = []
    counted = classes == tuple(map(str, range(len(classes))))
    if numbers and len(numbers) < len(classes):
        notes.append(
            f"Some labels are spelled like numbers, such as {numbers[0]!r}; they are names of "
            f"classes like the others."
        )
    elif numbers and not counted:
        notes.append(
            f"The labels {shortened(classes)} are names of {len(classes)} classes, in this order; "
            f'numbers are predicted by head = "regression".'
        )
    if joined := [name for name in classes if separator in name]:
        notes.append(
            f"The label {joined[0]!r} is the name of one class; several labels of a picture are "
            f'learnt by head = "multilabel".'
        )
    folded = Counter(name.casefold() for name in classes)
    if twins := [name for name in classes if folded[name.casefold()] > 1]:
        notes.append(f"The classes {twins[0]!r} and {twins[1]!r} differ in capitals alone.")
    return notes
