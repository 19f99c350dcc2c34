"""Any number of classes for each example: 0 or 1 for every class.

They come as a text `a|b`, as a list of names or of class numbers, as a list of 0 and 1 for every
class, or as a column of 0 and 1 for each class.
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
    of_cell,
    refuse_likely_numbers,
    refuse_missing,
    refuse_unlearnt,
    shortened,
)

OTHERS = (";", ",", "/", " ")
"""What people write between labels, beside what is read."""
FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}


def several_labels(
    written: Written, place: Place, names: Sequence[str] | None, separator: str = "|"
) -> Labels:
    """(N,C) int32 of 0 and 1 for each split. Raises DataError for a label that is missing or none
    of the classes."""
    if any(isinstance(cell, Mapping) for each in written.values() for cell in each):
        return _from_columns(written, place, names)
    lists = {split: [cells.as_list(c, separator) for c in each] for split, each in written.items()}
    nothing = "Fill it in, write [] where no class applies, or take the example out."
    refuse_missing(written, place, tuple(names or ()), nothing)
    if _are_flags(lists, names):
        return _from_flags(lists, names)
    spelled = {
        split: [_names(several, written[split][i], place, split, i) for i, several in numbered]
        for split, each in lists.items()
        for numbered in [list(enumerate(each))]
    }
    _refuse_other_separator(spelled, place, separator, names)
    classes = tuple(names) if names is not None else _classes(spelled, place)
    taken = {name: i for i, name in enumerate(classes)}
    every = Counter(name for each in spelled.values() for several in each for name in several)
    if names is None:
        refuse_likely_numbers(every)
    elif not set(every) <= set(taken):
        taken = _by_number(spelled, place, classes)
    return Labels(classes, {s: _matrix(each, taken, len(classes)) for s, each in spelled.items()})


def _from_columns(written: Written, place: Place, names: Sequence[str] | None) -> Labels:
    columns = tuple(next(cell for each in written.values() for cell in each))
    if names is not None and set(names) != set(columns):
        raise DataError(
            f"class_names lists {shortened(list(names))}, and the labels stand in the columns "
            f"{shortened(columns)}. Leave class_names out, or give it the columns in their order."
        )
    classes = tuple(names) if names is not None else columns
    values: dict[str, np.ndarray] = {}
    for split, each in written.items():
        rows = []
        for i, cell in enumerate(each):
            refuse_missing({split: list(cell.values())}, of_cell(place, i, tuple(cell)))
            rows.append([_flag(cell[name], name, place, split, i) for name in classes])
        values[split] = np.asarray(rows, np.int32).reshape(len(rows), len(classes))
    return Labels(classes, values)


def _flag(cell: Any, name: str, place: Place, split: str, i: int) -> int:
    flag = FLAGS.get((cells.as_name(cell) or "").lower())
    if flag is None:
        raise DataError(
            f"{place(split, i)} has {cells.quoted(cell)} in the column {name!r}; whether a class "
            f'applies is 1 or 0 there. Numbers are predicted by head = "regression".'
        )
    return flag


def _are_flags(
    lists: Mapping[str, Sequence[list[Any] | None]], names: Sequence[str] | None
) -> bool:
    """Whether lists say yes or no of every class: all of one length and of 0 and 1, repeated."""
    every = [several for each in lists.values() for several in each]
    if any(s is None or any(type(v) not in (int, bool, float) for v in s) for s in every):
        return False
    lengths = {len(s or ()) for s in every}
    repeated = any(len(set(s or ())) < len(s or ()) for s in every)
    fits = names is None or lengths == {len(names)}
    return len(lengths) == 1 and fits and repeated and {v for s in every for v in s or ()} <= {0, 1}


def _from_flags(
    lists: Mapping[str, Sequence[list[Any] | None]], names: Sequence[str] | None
) -> Labels:
    count = len(next(several for each in lists.values() for several in each) or ())
    classes = tuple(names) if names is not None else tuple(map(str, range(count)))
    return Labels(classes, {split: np.asarray(each, np.int32) for split, each in lists.items()})


def _names(several: list[Any] | None, cell: Any, place: Place, split: str, i: int) -> list[str]:
    found = [cells.as_name(item) for item in ([cell] if several is None else several)]
    if "" in found or None in found:
        raise DataError(
            f"{place(split, i)} has an empty name among its labels {cells.quoted(cell)}."
        )
    return [name for name in found if name is not None]


def _refuse_other_separator(
    spelled: Mapping[str, Sequence[Sequence[str]]],
    place: Place,
    separator: str,
    names: Sequence[str] | None,
) -> None:
    """No example has several labels, but some are written with something else between them."""
    if any(len(several) != 1 for each in spelled.values() for several in each):
        return
    every = [several[0] for each in spelled.values() for several in each]
    for other in OTHERS:
        parts = {part.strip() for name in every for part in name.split(other)}
        odd = [name for name in every if other in name and name not in (names or ())]
        if odd and (len(parts) < len(set(every)) or parts & set(every)):
            raise DataError(
                f"No label holds {separator!r}, which stands between several of an example, but "
                f"some hold {other!r}, such as {odd[0]!r}. If that is what separates them, say "
                f"label_separator = {other!r} in [data]."
            )


def _classes(spelled: Mapping[str, Sequence[Sequence[str]]], place: Place) -> tuple[str, ...]:
    lead = spelled.get("train") or [several for each in spelled.values() for several in each]
    found = {name for several in lead for name in several}
    whole = all(cells.CANONICAL.fullmatch(name) for name in found)
    classes = tuple(sorted(found, key=int) if whole else sorted(found))
    if not classes:
        raise DataError("No example has a label, so there is nothing to learn.")
    refuse_unlearnt(spelled, place, classes)
    return classes


def _by_number(
    spelled: Mapping[str, Sequence[Sequence[str]]], place: Place, classes: tuple[str, ...]
) -> dict[str, int]:
    """Names of numbers -> the numbers of classes."""
    every = dict.fromkeys(n for each in spelled.values() for several in each for n in several)
    counted = {name: cells.class_number(name) for name in every}
    numbers = all(number is not None for number in counted.values())
    known = {
        name: number
        for name, number in counted.items()
        if number is not None and number < len(classes)
    }
    for split, each in spelled.items():
        for i, several in enumerate(each):
            for name in several:
                if name not in (known if numbers else classes):
                    raise DataError(
                        f"{place(split, i)} has the label {name!r}, which is none of the "
                        f"{len(classes)} classes {shortened(classes)}."
                        f"{did_you_mean(name, classes)}"
                    )
    return known


def _matrix(each: Sequence[Sequence[str]], taken: Mapping[str, int], count: int) -> np.ndarray:
    rows = np.zeros((len(each), count), np.int32)
    for i, several in enumerate(each):
        rows[i, [taken[name] for name in several]] = 1
    return rows
