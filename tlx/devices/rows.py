"""Batches by number: the rows of a table that lies on the device, fetched inside of the step.

A table is a batch of all its rows (N,...); what a step is given then only says which, so that many
steps run in one program without anything being copied to them. Rows that nobody reads are one row
for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from tlx.types import Batch, PyTree, RowBatch


def taken(rows: PyTree, at: Any) -> PyTree:
    """The rows `at` (B,) of every leaf; a leaf with one row has that one for all."""
    return jax.tree.map(lambda leaf: leaf[at if len(leaf) > 1 else 0 * at], rows)


def fetched(batch: Batch | RowBatch, tables: Mapping[str, Batch]) -> Batch:
    """A batch of numbers as a batch of rows, its `domain` included; any other as it is."""
    if isinstance(batch, Batch):
        return batch
    found = taken(tables["train"], batch.rows)._replace(weight=batch.weight)
    if batch.domain is None:
        return found
    domain = taken(tables["domain"], batch.domain)._replace(weight=batch.weight, targets={})
    return found._replace(domain=domain)
