"""What labels of every kind have in common: how they are given, what becomes of them, and what is
refused whichever kind they are of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.errors import DataError, did_you_mean, listed
from tlx_data import label_cells as cells

Written = Mapping[str, Sequence[Any]]
"""Split -> the cell of each example: a text or a number, a list of them, or, of several columns,
a mapping by their names."""
Place = Callable[[str, int], str]
"""(split, i) -> the i-th example of a split in words, opening a sentence."""
FEW = 10
"""Classes that may well have one example each; of more, one wonders whether they are numbers."""


class Labels(NamedTuple):
    """`classes` in label order, empty for targets, which are called `numbers` where they come from
    several columns. `values` split -> (N,) int32 class numbers, (N,C) int32 of 0 and 1, or (N,) or
    (N,K) float32 targets. `notes` say what was decided."""

    classes: tuple[str, ...]
    values: dict[str, np.ndarray]
    numbers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def class_list(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names as classes. Raises DataError, opening with `where`, for one that is empty or
    stands there twice."""
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if not names or "" in names or twice is not None:
        what = "no name" if not names else f"{twice!r} twice" if twice else "an empty name"
        raise DataError(f"{where} holds {what}; it lists every class once, in label order.")
    return tuple(names)


def refuse_missing(
    written: Written, place: Place, kept: Sequence[str] = (), advice: str = ""
) -> None:
    """Every example has a label. Raises DataError that names the first which has none, and counts
    them; a word for nothing is a label where it is among the `kept` classes."""
    gaps = [
        (split, i, cell)
        for split, each in written.items()
        for i, cell in enumerate(each)
        if cells.is_missing(cell) and not (isinstance(cell, str) and cell.strip() in kept)
    ]
    if not gaps:
        return
    split, i, cell = gaps[0]
    word = isinstance(cell, str) and cell.strip()
    read = f", but {cells.quoted(cell)}, which tables write for a missing one" if word else ""
    others = f" ({len(gaps) - 1} more have none either)" if len(gaps) > 1 else ""
    named = f" If {cells.quoted(cell)} is a class, list it in class_names." if word else ""
    advice = advice or "Fill it in, or take the example out."
    raise DataError(f"{place(split, i)} has no label{read}{others}. {advice}{named}")


def of_cell(place: Place, i: int, columns: Sequence[str]) -> Place:
    """The k-th cell of an example in words, where its label stands in several columns."""

    def cell(split: str, k: int) -> str:
        column = "" if columns[k].isdecimal() else f", column {columns[k]!r},"
        return f"{place(split, i)}{column}"

    return cell


def are_likely_numbers(count: Counter[str]) -> bool:
    """Whether names are numbers that hardly ever come twice; `count` is how often each does."""
    single = sum(often == 1 for often in count.values())
    return len(count) > FEW and 2 * single > len(count) and all(map(cells.is_number, count))


def refuse_likely_numbers(count: Counter[str]) -> None:
    """Names of classes are no numbers that hardly ever come twice."""
    if are_likely_numbers(count):
        single = sum(often == 1 for often in count.values())
        raise DataError(
            f"The labels are {len(count)} different numbers, such as {listed(list(count)[:4])}, "
            f"and {single} of them are those of a single example. To predict numbers, say "
            f'head = "regression"; if each is a class of its own, list them as class_names.'
        )


def refuse_unlearnt(
    used: Mapping[str, Sequence[Sequence[str]]], place: Place, classes: Sequence[str]
) -> None:
    """Every class that a split names is one of `classes`, those of 'train'."""
    known = set(classes)
    for split, each in used.items():
        for i, several in enumerate(each):
            for name in several:
                if name not in known:
                    raise DataError(
                        f"{place(split, i)} has the label {name!r}, which no example of 'train' "
                        f"has.{did_you_mean(name, known)} The classes of 'train' are "
                        f"{shortened(classes)}."
                    )


def shortened(names: Sequence[str]) -> str:
    """The first of many names, quoted."""
    return listed([*map(repr, names[:10]), *(["..."] if len(names) > 10 else [])])
