"""Batches by number: the rows of a table that lies on the device, fetched inside of the step.

A table's rows are (N,...) arrays; a batch then only says which (`at`), so that many steps run in
one program without anything being copied to them. Rows that nobody reads are one row for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from tlx.types import Batch, PyTree


def taken(rows: Mapping[str, PyTree], at: Any) -> dict[str, PyTree]:
    """The rows `at` (B,) of every entry; an entry with one row has that one for all."""
    return jax.tree.map(lambda leaf: leaf[at if len(leaf) > 1 else 0 * at], dict(rows))


def fetched(batch: Batch, rows: Mapping[str, PyTree], split: str = "train") -> Batch:
    """A batch of numbers as a batch of rows, its `domain` included; any other as it is."""
    if "at" not in batch:
        return batch
    found = {**taken(rows[split], batch["at"]), "weight": batch["weight"]}
    if "domain" in batch:
        domain = fetched(batch["domain"], rows, "domain")
        found["domain"] = {name: domain[name] for name in domain if name != "label"}
    return found
