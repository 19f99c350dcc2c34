"""A `.npz` file in the convention of Keras' small data sets.

Holds `x_train` and `y_train`, usually `x_test` and `y_test`, and may hold `x_val`, `y_val` and
`class_names`. To measure weights a test split alone will do. Nothing in it is executed: files
that need pickle are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from tlx.errors import DataError, Refused, did_you_mean, listed
from tlx.files.plain_arrays import arrays
from tlx.types import DataInfo, LabelKind, Location
from tlx_data.arrays import Arrays, fingerprint
from tlx_data.image_info import image_info
from tlx_data.number_labels import single_precision


@final
@dataclass(frozen=True)
class Npz:
    """The file at `path`. Pictures are (N,H,W) or (N,H,W,1|3), integers 0..255 or floats 0..1.

    `label_kind` is what the head takes labels for: one class (N,) or (N,1) from 0, 0 or 1 for
    every class (N,C), or numbers (N,) or (N,K). Where nobody says it, floats are numbers, and 0 and
    1 in several columns are classes. The file is opened on first use; DataError where it does not
    hold what it should."""

    path: Location
    label_kind: LabelKind | None = None

    @cached_property
    def info(self) -> DataInfo:
        """Shape, classes, sizes and fingerprint."""
        splits, classes = self._read
        shapes = {split.images.shape[1:3] for split in splits.values()}
        return image_info(
            name=Path(self.path).stem,
            shape=(*shapes.pop(), 3) if len(shapes) == 1 else None,
            classes=classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=fingerprint(splits, classes),
        )

    def split(self, name: str) -> Arrays:
        """The split `name`."""
        return self._read[0][name]

    @cached_property
    def _read(self) -> tuple[dict[str, Arrays], tuple[str, ...]]:
        where = f"The data file {self.path!r}"
        held = _load(self.path, where)
        splits = {
            name: _split(held, name, where, self.label_kind)
            for name in ("train", "val", "test")
            if f"x_{name}" in held or f"y_{name}" in held
        }
        if not splits:
            raise DataError(
                f"{where} has no split. It holds {listed(held)}; x_train and y_train, x_val and "
                f"y_val, x_test and y_test go in pairs. To measure weights, x_test will do."
            )
        return splits, _classes(held, splits, where)


def _load(path: str, where: str) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise DataError(f"{where} does not exist.")
    try:
        with open(path, "rb") as stream:
            single = stream.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
            stream.seek(0)
            if not single:
                return arrays(stream)
    except Refused as why:
        raise DataError(f"{where} cannot be read: it {why}") from None
    except Exception as error:  # damaged bytes make zipfile and NumPy raise anything
        raise DataError(f"{where} cannot be read: {error}") from error
    raise DataError(f"{where} is a single array; write it with numpy.savez.")


def _split(
    arrays: Mapping[str, np.ndarray], name: str, where: str, kind: LabelKind | None
) -> Arrays:
    for key in (f"x_{name}", f"y_{name}"):
        if key not in arrays:
            raise DataError(
                f"{where} has no array {key!r}.{did_you_mean(key, arrays)} It holds "
                f"{listed(arrays)}; x_train and y_train are needed, x_val, y_val, x_test and "
                f"y_test go in pairs."
            )
    x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
    if len(x) != len(y):
        raise DataError(f"{where} has {len(x)} pictures x_{name}, but {len(y)} labels y_{name}.")
    return Arrays(_pictures(x, f"x_{name}", where), _labels(y, f"y_{name}", where, kind))


def _pictures(x: np.ndarray, key: str, where: str) -> np.ndarray:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in (1, 3):
        raise DataError(
            f"{where}: {key} has the shape {x.shape}; (N,H,W), (N,H,W,1) or (N,H,W,3) is read."
        )
    if x.dtype == np.uint8 or x.size == 0:
        return x.astype(np.uint8, copy=False)
    low, high = x.min(), x.max()
    if np.issubdtype(x.dtype, np.integer) and low >= 0 and high <= 255:
        return x.astype(np.uint8)
    if np.issubdtype(x.dtype, np.floating) and low >= 0 and high <= 1:
        return x.astype(np.float32)
    raise DataError(
        f"{where}: {key} holds {x.dtype} from {low} to {high}; pictures are integers from 0 to 255 "
        f"or floats from 0 to 1."
    )


def _labels(y: np.ndarray, key: str, where: str, kind: LabelKind | None) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    whole = np.issubdtype(y.dtype, np.integer) or y.dtype == bool
    real = np.issubdtype(y.dtype, np.floating)
    if (whole or real) and y.ndim in (1, 2):
        flags = y.ndim == 2 and bool(np.isin(y, (0, 1)).all())
        if kind is None:
            kind = "multilabel" if flags else "number" if real or y.ndim == 2 else "class"
        if kind == "number":
            return _targets(y, key, where)
        if kind == "multilabel" and flags:
            return y.astype(np.int32)
        if kind == "class" and y.ndim == 1 and (whole or bool((y == np.floor(y)).all())):
            return y.astype(np.int32)
        if kind == "class" and flags and len(y) and bool((y.sum(1) == 1).all()):
            return y.argmax(1).astype(np.int32)
    wanted = {
        None: "integers or floats (N,), (N,1) or (N,K)",
        "class": "class numbers (N,) or (N,1)",
        "multilabel": "0 or 1 for every class, (N,C)",
        "number": "numbers (N,) or (N,K)",
    }[kind]
    raise DataError(
        f"{where}: {key} is {y.dtype} of shape {y.shape}; the labels that are wanted are {wanted}."
    )


def _targets(y: np.ndarray, key: str, where: str) -> np.ndarray:
    if not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0, 0])
        raise DataError(f"{where}: {key} has no finite number at example {row}.")
    try:
        return single_precision(y)
    except DataError as error:
        raise DataError(f"{where}: {key}: {error}") from error


def _classes(
    arrays: Mapping[str, np.ndarray], splits: Mapping[str, Arrays], where: str
) -> tuple[str, ...]:
    kinds = {(split.labels.dtype, *split.labels.shape[1:]) for split in splits.values()}
    if len(kinds) > 1:
        raise DataError(
            f"{where} has labels of different kinds in its splits: {sorted(map(str, kinds))}."
        )
    labels = next(iter(splits.values())).labels
    if labels.dtype == np.float32:
        return ()
    needed = (
        labels.shape[1]
        if labels.ndim == 2
        else 1 + max((int(s.labels.max()) for s in splits.values() if len(s)), default=-1)
    )
    if labels.ndim == 1 and any(len(s) and s.labels.min() < 0 for s in splits.values()):
        raise DataError(f"{where} has a negative label; classes are numbered from 0.")
    if "class_names" not in arrays:
        return tuple(str(number) for number in range(needed))
    names = tuple(str(name) for name in arrays["class_names"].ravel())
    if len(names) < needed or (labels.ndim == 2 and len(names) != needed):
        raise DataError(
            f"{where} names {len(names)} classes in class_names, but its labels need {needed}."
        )
    return names
