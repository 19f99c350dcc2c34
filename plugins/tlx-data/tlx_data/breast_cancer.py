"""scikit-learn's breast cancer data: 569 rows of 30 numbers measured on cell nuclei, two classes.

They come with scikit-learn itself, so they are there without a download (Wolberg, Street and
Mangasarian 1993, "Breast Cancer Wisconsin (Diagnostic)").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, final

import numpy as np
from tlx_table import Row

from tlx.data.fields import label_field
from tlx.types import DataInfo
from tlx_data.table_rows import Rows, fingerprint


@final
@dataclass(frozen=True)
class BreastCancer:
    """One split, 'train', of 569 rows of 30 numbers; classes "malignant" and "benign"."""

    @cached_property
    def info(self) -> DataInfo:
        """Columns, classes, sizes and fingerprint."""
        rows, columns, classes = _read()
        fields = {"row": Row(columns), "label": label_field(classes)}
        prints = fingerprint(None, {"train": rows}, classes)
        return DataInfo("breast_cancer", fields, {"train": len(rows)}, prints)

    def split(self, name: str) -> Rows:
        """The split 'train'."""
        return {"train": _read()[0]}[name]


@lru_cache(maxsize=1)
def _read() -> tuple[Rows, tuple[str, ...], tuple[str, ...]]:
    from sklearn.datasets import load_breast_cancer  # slow to import

    found: Any = load_breast_cancer()
    columns = tuple(str(name) for name in found.feature_names)
    rows = [dict(zip(columns, numbers.tolist(), strict=True)) for numbers in found.data]
    labels = np.asarray(found.target, np.int32)
    places = [f"Row {number + 1} of scikit-learn's breast cancer" for number in range(len(rows))]
    classes = tuple(str(name) for name in found.target_names)
    return Rows({"row": rows}, "label", labels, places), columns, classes
