"""What a head takes labels for, and what the labels give a head.

The head decides what a label is: its `label_kind` reaches the source of the data, so that `01234`
is a name to one head and a number to another. In turn a head is told what the labels of the
training split say: how many classes or numbers there are, and the numbers' mean and spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

import numpy as np

from tlx import registry
from tlx.config import DataConfig, WeightsConfig
from tlx.contracts.file_facts import head_of
from tlx.protocols import DataSource, Head, WeightSource
from tlx.run_file.run_config import Part
from tlx.types import DataInfo, LabelKind

FITTED = ("outputs", "names", "mean", "std")
"""Options of a head that the training split fills, and that belong to the saved model."""


def kind_of(head: Part | None) -> LabelKind | None:
    """What a label is to a head, by its factory; None without a head, and where it does not say."""
    if head is None:
        return None
    factory: Any = registry.load("heads", head.name)
    while isinstance(factory, partial):
        factory = factory.func
    kind = getattr(factory, "label_kind", None)
    return kind if kind in get_args(LabelKind) else None


def open_source(data: DataConfig, head: Part | None) -> DataSource:
    """The source of data that a run file names, whose labels are what the head takes them for;
    without a head it is told that it needs none."""
    kind = kind_of(head)
    given = {"label_kind": kind} if kind else {} if head else {"label_needed": False}
    return registry.build("datasets", data.name, data.options, given)


def fitted_head(
    head: Part, info: DataInfo, labels: np.ndarray, kept: Mapping[str, Any] | None = None
) -> Part:
    """The head with what numbers (N,) or (N,K) of the training split say of it among its options;
    those that a run file sets itself stay. An output that never varies has a `std` of 1. With a
    head that is `kept` from a file, its options say what its numbers were divided by, if
    anything."""
    if info.classes or not np.issubdtype(labels.dtype, np.number):
        return head
    columns = labels.reshape(len(labels), -1).astype(np.float64)
    std = columns.std(0)
    found = {
        "outputs": columns.shape[1],
        "names": info.numbers,
        "mean": tuple(columns.mean(0).tolist()),
        "std": tuple(np.where(std > 0, std, 1.0).tolist()),
    }
    if kept is not None:
        found |= {"mean": 0.0, "std": 1.0} | {k: kept[k] for k in ("mean", "std") if k in kept}
    known = {option.name for option in registry.schema(registry.load("heads", head.name))}
    fitting = {key: found[key] for key in FITTED if key in known}
    return Part(head.name, fitting | dict(head.options))


def kept_options(weights: WeightsConfig | None, source: WeightSource | None) -> Any:
    """The options of the head that a run keeps from its weights; None where it begins anew."""
    if weights is None or weights.head != "keep":
        return None
    found = head_of(source)
    return found[1] if found else {}


def head_over(head: Part | None, classes: int, outputs: int | None = None) -> Head:
    """A head of a kind over so many classes, or `outputs`; a softmax where there is none."""
    name, options = (head.name, head.options) if head else ("softmax", {})
    given = {"classes": classes} | ({} if outputs is None else {"outputs": outputs})
    return registry.build("heads", name, options, given)
