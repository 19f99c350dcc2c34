"""One cell of a table as people and spreadsheets write it: missing, a name, or a number.

Nothing here decides what a cell means. A name stays as it is spelled, so that `01234` and `3.10`
keep their zeros; a number is read only where a number is wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nil", "nat")
)
"""How tables write that there is nothing, in any case."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
SHOWN, LISTED = 80, 8
"""Characters of a cell that a message quotes, and items of a list."""


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing: empty, not a number, or a word for it."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def quoted(cell: Any) -> str:
    """A cell in a message, shortened; the bytes of a file are counted and never shown."""
    if isinstance(cell, bytes | bytearray | memoryview):
        return f"{len(cell):,} bytes"
    if isinstance(cell, Mapping):
        inner = ", ".join(f"{key}: {quoted(value)}" for key, value in cell.items())
        return f"{{{inner}}}"[:SHOWN]
    if isinstance(cell, list | tuple) and len(cell) > LISTED:
        return f"a list of {len(cell):,}"
    return repr(cell if not isinstance(cell, str) else cell[:SHOWN])[: SHOWN + 2]


def as_name(cell: Any) -> str | None:
    """What a text or a number is called as it is spelled; whole floats, which a column with a gap
    makes of whole numbers, without the point. None for anything else."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    return str(cell) if isinstance(cell, bool | int | float | Decimal) else None


def decimal_mark(texts: Iterable[str]) -> str | None:
    """What divides whole from decimal places in all of these numbers: '.', or ',' as many
    spreadsheets write it. None where a comma could be either."""
    commas = [text for text in texts if "," in text]
    if not commas:
        return "."
    thousands = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
    decimals = re.compile(r"[+-]?[0-9]*,[0-9]*([eE][+-]?[0-9]{1,3})?")
    as_thousands = all(thousands.fullmatch(text) for text in commas)
    as_decimals = all(decimals.fullmatch(text) for text in commas)
    if as_thousands == as_decimals:
        return None
    return "." if as_thousands else ","


def as_number(cell: Any, mark: str = ".") -> float | None:
    """A finite number; None for what is none."""
    if isinstance(cell, str):
        text = cell.strip()
        text = text.replace(",", ".") if mark == "," else text.replace(",", "")
        cell = float(text) if NUMBER.fullmatch(text) else None
    if isinstance(cell, bool | int | float | Decimal) and math.isfinite(cell):
        return float(cell)
    return None
