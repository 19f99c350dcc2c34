"""What a head says of a picture, as a line of text, a row of CSV or an object of JSON.

Heads say numbers, words, lists of labels and arrays under names of their own; here they are told
apart by their shape alone, and an array with a number for every class gets the classes' names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tlx.reporting.wording import plain, shown

FEW = 8
"""Numbers of an array that a line of text shows."""
BETWEEN_LABELS = "|"

Answer = Mapping[str, Any]


def with_classes(answer: Answer, classes: Sequence[str], top: int | None) -> dict[str, Any]:
    """The answer as plain data, in which an array with a number for every class is a table from
    class to number: the `top` greatest in order of size, or all in order of the classes."""
    found = {}
    for name, value in answer.items():
        value = plain(value)
        if classes and isinstance(value, list) and _numbers(value) == len(classes):
            value = dict(zip(classes, value, strict=True))
            if top is not None:
                best = sorted(value, key=lambda c: -value[c])[:top]
                value = {c: value[c] for c in best}
        found[name] = value
    # Numbers and words first, since they say most.
    return dict(sorted(found.items(), key=lambda entry: isinstance(entry[1], list | dict)))


def as_text(answer: Answer, top: int | None) -> list[str]:
    """The cells of a line. Tables of classes are shown where `top` asks for them."""
    cells = []
    for name, value in answer.items():
        if isinstance(value, Mapping):
            if top is not None:
                cells += [f"{key} {shown(name, number)}" for key, number in value.items()]
        elif isinstance(value, list):
            numbers = _numbers(value)
            if value and not numbers:
                cells.append(f"{name} {', '.join(map(str, value))}")
            elif not value:
                cells.append(f"{name} none")
            elif numbers <= FEW:
                cells.append(f"{name} {', '.join(shown(name, number) for number in value)}")
            else:
                cells.append(f"{name} ({numbers} numbers)")
        else:
            cells.append(f"{name} {shown(name, value)}")
    return cells


def as_cells(answer: Answer, top: int | None) -> dict[str, Any]:
    """Column -> cell of a row of CSV. A table of classes is a column for each, `name.class`; its
    greatest are columns by rank, `name.1.class` and `name.1`. Labels are one cell, `a|b`."""
    cells: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping) and top is not None:
            for rank, (key, number) in enumerate(value.items(), start=1):
                cells |= {f"{name}.{rank}.class": key, f"{name}.{rank}": number}
        elif isinstance(value, Mapping):
            cells |= {f"{name}.{key}": number for key, number in value.items()}
        elif isinstance(value, list) and (not value or not _numbers(value)):
            cells[name] = BETWEEN_LABELS.join(map(str, value))
        elif isinstance(value, list):
            cells |= {f"{name}{place}": number for place, number in _flat(value)}
        else:
            cells[name] = value
    return cells


def _numbers(values: list[Any]) -> int:
    """How many numbers an array holds; 0 where it holds anything else."""
    flat = [number for _, number in _flat(values)]
    return len(flat) if all(isinstance(number, int | float) for number in flat) else 0


def _flat(values: list[Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(values):
        place = f"{at}.{number}"
        if isinstance(value, list):
            yield from _flat(value, place)
        else:
            yield place, value
