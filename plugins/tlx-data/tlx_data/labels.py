"""From labels as people write them to class numbers, rows of yes and no, or targets.

What a label is, is decided by the head that will learn it (`LabelKind`) and by `class_names`, and
never by its spelling alone. What is missing or could be read in two ways is refused: a shifted or
reordered label trains without complaint and means nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tlx.errors import DataError, listed
from tlx.types import LabelKind
from tlx_data import label_cells as cells
from tlx_data.class_labels import class_labels
from tlx_data.label_rules import Labels, Place, Written, are_likely_numbers
from tlx_data.number_labels import number_labels
from tlx_data.several_labels import several_labels


def read_labels(
    written: Written,
    place: Place,
    *,
    kind: LabelKind | None = None,
    names: Sequence[str] | None = None,
    separator: str = "|",
) -> Labels:
    """The labels of each split as arrays; `kind` is what the head takes them for, None where nobody
    has said it, and then decimal numbers, and whole ones that hardly ever come twice, are targets
    and everything else is a class.

    `names` are the classes in label order; then a label may also be the number of one. Raises
    DataError, naming the example, for a label that is missing, of another kind or of no class."""
    if not separator:
        raise DataError("label_separator is what stands between labels, and not nothing.")
    kind = kind or _likely(written, names)
    if kind == "number" and names is not None:
        raise DataError(
            f"class_names lists {listed(map(repr, names[:4]))}, but the head predicts numbers, "
            f"which have no classes. Leave class_names out, or choose a head of classes."
        )
    if kind == "number":
        return number_labels(written, place, separator)
    if kind == "multilabel":
        return several_labels(written, place, names, separator)
    return class_labels(written, place, names, separator)


def _likely(written: Written, names: Sequence[str] | None) -> LabelKind:
    """What labels are where no head has said it."""
    every = [cell for each in written.values() for cell in each if not cells.is_missing(cell)]
    if names is None and any(isinstance(cell, Mapping) for cell in every):
        flags = {cells.as_number(v) for cell in every for v in cell.values()}
        return "multilabel" if flags <= {0.0, 1.0} else "number"
    items = [each for cell in every for each in (cells.as_list(cell, "\0") or [])]
    if items:
        real = any(isinstance(each, float) for each in items) and names is None
        return "number" if real else "multilabel"
    spelled = [cells.as_name(cell) or "" for cell in every]
    numbers = bool(spelled) and names is None and all(map(cells.is_number, spelled))
    whole = all(name.lstrip("+-").isdecimal() for name in spelled)
    rare = are_likely_numbers(Counter(spelled))
    return "number" if numbers and (rare or not whole) else "class"
