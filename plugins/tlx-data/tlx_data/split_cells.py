"""Which split a row of a table belongs to, as people write it.

A column of words (`split`, `subset`, `set`, `partition`), of yes and no (`is_valid`, `is_test`), or
of numbers of folds. What such a column says is used; what it leaves open is asked about, because a
split that is not looked at puts test pictures into training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tlx.errors import DataError, did_you_mean, listed
from tlx_data.label_cells import as_name, quoted
from tlx_data.split_names import MEANINGS, meaning

NAMED = ("split", "subset", "set", "partition", "fold", "phase", "usage", "splits", "data_split")
"""Columns that say a split, in any case."""
YES = {
    "val": ("is_valid", "is_val", "is_validation", "valid", "val", "validation"),
    "test": ("is_test", "test"),
    "train": ("is_train", "is_training", "train"),
}
"""Columns that say of one split whether a row belongs to it."""
FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "n", "f", ""), False),
}
LEAVE = "split_column = false takes no notice of it"


class SplitColumns(NamedTuple):
    """The columns that say a row's split, and how to read it from them."""

    columns: tuple[str, ...]
    read: Callable[[Mapping[str, Any], str], str]
    notes: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """What a run file says of splits: the column, False for none, None to look for it; the values
    that stand for validation and for test."""

    column: str | bool | None
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


def split_columns(values: Mapping[str, set[str]], chosen: Chosen) -> SplitColumns:
    """How to tell the split of a row. `values` are the different cells, as text, of the columns
    that are not read as something else. Raises DataError where a column is there that says a split
    in words that are not known."""
    if chosen.column is False:
        return SplitColumns((), lambda cells, place: "train")
    if isinstance(chosen.column, str):
        return _by_name(chosen.column, chosen, values, named=True)
    named = sorted(
        (name for name in values if _plain(name) in NAMED), key=lambda n: NAMED.index(_plain(n))
    )
    if chosen.val or chosen.test:
        if len(named) != 1:
            raise DataError(
                f"val_values and test_values say what the values of a column stand for; say which "
                f"one by split_column. The columns are {listed(values)}."
            )
        return _by_name(named[0], chosen, values, named=False)
    in_words = [name for name in named if all(not v or meaning(v) for v in values[name])]
    in_words += [name for name in values if name not in named and _are_splits(values[name])]
    if in_words:
        said = f"is not read; {in_words[0]!r} says the split."
        others = dict.fromkeys(n for n in (*named, *in_words) if n != in_words[0])
        notes = tuple(f"The column {other!r} {said}" for other in others)
        return _by_name(in_words[0], chosen, values, named=False)._replace(notes=notes)
    if named and _plain(named[0]) != "split":
        _ask(named[0], values[named[0]])
    if named:
        return _by_name(named[0], chosen, values, named=False)
    yes = {split: [n for n in values if _plain(n) in names] for split, names in YES.items()}
    flags = {s: n for s, found in yes.items() for n in found if _are_flags(values[n])}
    return _by_flags(flags) if flags else SplitColumns((), lambda cells, place: "train")


def _are_splits(values: set[str]) -> bool:
    """Whether the cells of a column of any name are the names of splits, and nothing else."""
    meanings = {meaning(value) for value in values}
    return "train" in meanings and len(meanings) > 1 and None not in meanings


def _by_name(
    column: str, chosen: Chosen, values: Mapping[str, set[str]], *, named: bool
) -> SplitColumns:
    said = {**dict.fromkeys(chosen.val, "val"), **dict.fromkeys(chosen.test, "test")}
    there = values[column] if said else set()
    if unknown := [value for value in said if value not in there]:
        raise DataError(
            f"The column {column!r} holds no {unknown[0]!r}; it holds {listed(sorted(there)[:8])}."
        )
    split = next((s for s, names in YES.items() if _plain(column) in names), None)
    if named and not said and split and _are_flags(values[column]):
        return _by_flags({split: column})
    numbers = (
        named
        and not said
        and values[column]
        and all(v.lstrip("-").isdecimal() for v in values[column])
    )
    if numbers:
        _ask(column, values[column])

    def read(cells: Mapping[str, Any], place: str) -> str:
        name = as_name(cells[column]) or ""
        found = said.get(name, "train") if said else meaning(name)
        if found is None:
            raise DataError(
                f"{place} names the split {quoted(cells[column])}.{did_you_mean(name, MEANINGS)} A "
                f"split is called {listed(['train', 'val', 'valid', 'validation', 'test'])}; "
                f"val_values and test_values say what other values stand for, and {LEAVE}."
            )
        return found

    return SplitColumns((column,), read)


def _by_flags(flags: Mapping[str, str]) -> SplitColumns:
    def read(cells: Mapping[str, Any], place: str) -> str:
        yes = [s for s, name in flags.items() if FLAGS.get((as_name(cells[name]) or "").lower())]
        if len(yes) > 1:
            raise DataError(f"{place} belongs to {listed(yes)} at once; a row is in one split.")
        if yes or "train" not in flags:
            return yes[0] if yes else "train"
        rest = [split for split in ("val", "test") if split not in flags]
        return rest[-1]

    columns = tuple(flags.values())
    if "train" in flags and len(flags) == 1:
        note = f"Rows that {flags['train']!r} says no of are the test."
        return SplitColumns(columns, read, (note,))
    return SplitColumns(columns, read)


def _ask(column: str, values: set[str]) -> None:
    shown = sorted(values, key=lambda v: (len(v), v))
    some = listed([*map(repr, shown[:6]), *(["..."] if len(shown) > 6 else [])])
    raise DataError(
        f"The column {column!r} looks as if it said the split of each row, but its values {some} "
        f"are no names of one. Say in [data] which are validation and test, such as "
        f"test_values = [{shown[-1]!r}] and val_values = [{shown[0]!r}] (all others are trained "
        f"on); {LEAVE}."
    )


def _are_flags(values: set[str]) -> bool:
    return {value.strip().lower() for value in values} <= set(FLAGS)


def _plain(name: str) -> str:
    """A name without case, spaces and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")
