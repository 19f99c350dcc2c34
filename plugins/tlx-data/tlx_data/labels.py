"""From labels as people write them to class numbers or targets.

A label is a class name, a class number counted from 0, or a decimal number to be predicted, and
all labels of a data set are of one kind. What could be read in two ways is refused: a shifted or
reordered label trains without complaint and means nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.errors import DataError, did_you_mean, listed

Written = Mapping[str, Sequence[Any]]
Place = Callable[[str, int], str]


class Labels(NamedTuple):
    """`classes` in label order, empty for targets; `values` split -> (N,), int32 class numbers
    or float32 targets."""

    classes: tuple[str, ...]
    values: dict[str, np.ndarray]


def numbered(written: Written, place: Place, names: Sequence[str] | None = None) -> Labels:
    """The labels of each split, text or numbers, as numbers.

    With `names`, a label is one of them or its number. Without, names are sorted, whole numbers
    are class numbers, and other numbers are targets; every class has to be in 'train', if there is
    one. `place(split, i)` names the i-th label of a split in a sentence, opening it. Raises
    DataError for a label that is missing, of another kind or outside of the classes."""
    read = {
        split: [_value(label, lambda at=(split, i): place(*at)) for i, label in enumerate(labels)]
        for split, labels in written.items()
    }
    if names is not None:
        return _among(read, place, tuple(names))
    kinds = {kind: _first(read, kind) for kind in (int, float, str)}
    there = [(kind, found) for kind, found in kinds.items() if found]
    if kinds[str] and len(there) > 1:
        (_, (split, i)), (_, (other, j)) = there[0], there[-1]
        raise DataError(
            f"{place(other, j)} has the label {read[other][j]!r}, a name, but "
            f"{_inside(place(split, i))} has {read[split][i]!r}, a number. Write all labels as "
            f"names or all as numbers, or list the names as class_names."
        )
    if kinds[float]:
        return Labels((), {split: np.asarray(v, np.float32) for split, v in read.items()})
    classes = _distinct(read, place) if kinds[str] else _counted(read, place)
    number = {name: i for i, name in enumerate(classes)}
    return Labels(
        classes,
        {split: np.asarray([number[str(v)] for v in vs], np.int32) for split, vs in read.items()},
    )


def class_list(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names as classes. Raises DataError, opening with `where`, for one that is empty or
    stands there twice."""
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if not names or "" in names or twice is not None:
        what = "no name" if not names else f"{twice!r} twice" if twice else "an empty name"
        raise DataError(f"{where} holds {what}; it lists every class once, in label order.")
    return tuple(names)


def _value(label: Any, place: Callable[[], str]) -> int | float | str:
    """The label as a number where it is one, however it was written."""
    if isinstance(label, str):
        text = label.strip()
        if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            return int(text)
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", text):
            label = float(text)
        elif text:
            return text
    if isinstance(label, bool | int):
        return int(label)
    if isinstance(label, float) and math.isfinite(label):
        return label
    if label is None or label != label or isinstance(label, str):
        raise DataError(f"{place()} has no label. Fill it in, or take the example out.")
    raise DataError(
        f"{place()} has the label {str(label)[:80]!r} ({type(label).__name__}); a label is a class "
        f"name, a class number or a finite number."
    )


def _among(read: Written, place: Place, names: tuple[str, ...]) -> Labels:
    number = {name: i for i, name in enumerate(names)}
    every = [value for values in read.values() for value in values]
    named = all(str(value) in number for value in every)
    counted = all(isinstance(value, int) and 0 <= value < len(names) for value in every)
    if named and counted and any(number[str(value)] != value for value in every):
        wrong = next(value for value in every if number[str(value)] != value)
        raise DataError(
            f"The label {wrong} can be read as the class called {str(wrong)!r}, which is number "
            f"{number[str(wrong)]} of class_names, or as class number {wrong}, called "
            f"{names[wrong]!r}. Call the classes something else than numbers."
        )
    if not named and not counted:
        numbers = all(isinstance(value, int) for value in every)
        for split, values in read.items():
            for i, value in enumerate(values):
                if not (0 <= value < len(names) if numbers else str(value) in number):
                    near = did_you_mean(str(value), names)
                    raise DataError(
                        f"{place(split, i)} has the label {value!r}, which is none of the "
                        f"{len(names)} classes {_shortened(names)} and no number of one.{near}"
                    )
    return Labels(
        names,
        {
            split: np.asarray([number[str(v)] if named else v for v in vs], np.int32)
            for split, vs in read.items()
        },
    )


def _distinct(read: Written, place: Place) -> tuple[str, ...]:
    """The names, sorted."""
    lead = read.get("train") or [value for values in read.values() for value in values]
    known = set(lead)
    for split, values in read.items():
        for i, value in enumerate(values):
            if value not in known:
                raise DataError(
                    f"{place(split, i)} has the label {value!r}, which no example of 'train' has."
                    f"{did_you_mean(value, known)} The classes of 'train' are "
                    f"{_shortened(sorted(known))}."
                )
    return tuple(sorted(known))


def _counted(read: Written, place: Place) -> tuple[str, ...]:
    """'0' to the largest number, each of which has to be there."""
    for split, values in read.items():
        for i, value in enumerate(values):
            if value < 0:
                raise DataError(
                    f"{place(split, i)} has the label {value}; classes are numbered from 0."
                )
    every = {value for values in read.values() for value in values}
    lead = set(read.get("train") or every)
    absent = next(number for number in range(len(every) + 1) if number not in lead)
    if absent <= max(every, default=-1):
        raise DataError(
            f"The labels are class numbers up to {max(every)}, but no example"
            f"{' of ' + repr('train') if 'train' in read else ''} has the label {absent}. Number "
            f"the classes from 0 without a gap, or list their names as class_names."
        )
    return tuple(map(str, range(len(every))))


def _first(read: Written, kind: type) -> tuple[str, int] | None:
    """(split, position) of the first label of a kind."""
    spots = ((s, i) for s, values in read.items() for i, v in enumerate(values) if type(v) is kind)
    return next(spots, None)


def _inside(place: str) -> str:
    """A place within a sentence."""
    return place[0].lower() + place[1:]


def _shortened(names: Sequence[str]) -> str:
    return listed([*map(repr, names[:10]), *(["..."] if len(names) > 10 else [])])
