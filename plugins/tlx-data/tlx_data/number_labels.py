"""Numbers to be predicted: one for each example, or several.

Several stand in columns of their own or as a list in one cell. They are read in double precision,
and refused where the single precision of a network could not tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import DataError
from tlx_data import label_cells as cells
from tlx_data.label_rules import Labels, Place, Written, of_cell, refuse_missing

COARSE = 0.01
"""The greatest error of rounding, in units of the targets' spread."""


def number_labels(written: Written, place: Place, separator: str = "|") -> Labels:
    """(N,) float32 for each split, or (N,K) of K numbers an example. Raises DataError for one that
    is missing or no finite number, and for examples that have more of them than others."""
    items = {split: [_items(c, separator) for c in each] for split, each in written.items()}
    texts = [v for each in items.values() for row in each for v in row.values() if _is_text(v)]
    mark = cells.decimal_mark(map(str.strip, texts))
    if mark is None:
        odd = next(text for text in texts if "," in text)
        raise DataError(
            f"The targets hold commas, such as {odd!r}, which may set off thousands or decimal "
            f"places. Write numbers with a decimal point and without commas."
        )
    columns: tuple[str, ...] | None = None
    values: dict[str, np.ndarray] = {}
    for split, each in items.items():
        rows = []
        for i, row in enumerate(each):
            columns = tuple(row) if columns is None else columns
            refuse_missing({split: list(row.values())}, of_cell(place, i, tuple(row)))
            if tuple(row) != columns:
                raise DataError(
                    f"{place(split, i)} has another number of targets, {len(row)}, than the "
                    f"{len(columns)} of the examples before."
                )
            rows.append([_number(v, mark, split, i, place, name) for name, v in row.items()])
        values[split] = single_precision(np.asarray(rows, np.float64))
    of_columns = any(isinstance(c, Mapping) for each in written.values() for c in each)
    names = tuple(columns or ()) if of_columns else ()
    return Labels((), values, names if len(names) > 1 else ())


def single_precision(values: np.ndarray) -> np.ndarray:
    """Targets (N,) or (N,K) as float32; (N,1) becomes (N,). Raises DataError where rounding takes
    away what differs between examples, as it does for times in seconds since 1970."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    error = np.abs(found - np.asarray(values, np.float64)).max(initial=0.0)
    spread = np.asarray(values, np.float64).std(0).max(initial=0.0) if len(values) else 0.0
    if not np.isfinite(found).all() or error > COARSE * spread > 0:
        raise DataError(
            f"The targets, such as {values.ravel()[0]:.17g}, are too large against what they "
            f"differ by ({spread:.3g}) for the single precision of a network. Take off what they "
            f"have in common, or write them in other units."
        )
    return found


def _items(cell: Any, separator: str) -> dict[str, Any]:
    """The numbers of an example by column, or by their place."""
    if isinstance(cell, Mapping):
        return dict(cell)
    several: Sequence[Any] | None = cells.as_list(cell, separator)
    return {str(i): value for i, value in enumerate([cell] if several is None else several)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _number(cell: Any, mark: str, split: str, i: int, place: Place, name: str) -> float:
    number = cells.as_number(cell, mark)
    if number is None:
        raise DataError(
            f"{place(split, i)} has the label {cells.quoted(cell)}, which is no finite number, and "
            f'this head predicts numbers. Classes are learnt by head = "softmax".'
        )
    return number
