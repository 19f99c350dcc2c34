"""One cell of a label: what `tlx_table.cells` reads in any cell, the number of a class, or a list.

Nothing here decides what a label means.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from tlx_table.cells import NUMBER
from tlx_table.cells import as_name as as_name
from tlx_table.cells import as_number as as_number
from tlx_table.cells import decimal_mark as decimal_mark
from tlx_table.cells import is_missing as is_missing
from tlx_table.cells import quoted as quoted

CANONICAL = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number from 0 as it is written without ornament."""


def class_number(name: str) -> int | None:
    """The number that a name may stand for, written as `3` or `3.0`; None for another name."""
    whole = re.sub(r"\.0+$", "", name)
    return int(whole) if CANONICAL.fullmatch(whole) else None


def is_number(name: str) -> bool:
    """Whether a name is spelled like a number."""
    return NUMBER.fullmatch(name) is not None


def as_list(cell: Any, separator: str = "|") -> list[Any] | None:
    """The items of a cell that is a list, in a column of lists or as a text such as `a|b` or
    `["a", "b"]`; None for a single item."""
    if not isinstance(cell, str):
        return list(cell) if isinstance(cell, list | tuple) else None
    text = cell.strip()
    if text[:1] + text[-1:] in ("[]", "()"):
        for read in (json.loads, ast.literal_eval):  # neither runs anything
            try:
                found = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return list(found) if isinstance(found, list | tuple) else None
        return [item.strip().strip("'\"") for item in text[1:-1].split(",")]
    return [item.strip() for item in text.split(separator)] if separator in text else None
