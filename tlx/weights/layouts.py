"""How the numbers of one tensor lie in a file and in a leaf, in both directions.

`fitted` follows a row of a dialect from the file to the leaf and says what it changed beyond the
order of axes; `written` goes back. A shape is changed only where the row's layout says how.
"""

from __future__ import annotations

import numpy as np

from tlx.contracts.dialect import FILLED, Dialect, Row
from tlx.weights.positions import refitted


def fitted(
    tensor: np.ndarray, shape: tuple[int, ...], row: Row, dialect: Dialect
) -> tuple[np.ndarray, str]:
    """The tensor as the leaf of this shape would have it, and what was changed.

    Where it cannot be made to fit, it comes back in the shape that it has."""
    theirs, ours = dialect.theirs, dialect.ours
    if row.part is not None:
        index, number = row.part
        if tensor.ndim == 0 or tensor.shape[0] % number:
            return tensor, ""
        tensor = np.split(tensor, number)[index]
    if row.layout in FILLED:
        value = {"one": 1.0, "zero": 0.0, "unit": 1 - ours.norm_eps}[row.layout]
        why = "set so that the batch norm, folded in the file, only adds its bias"
        return np.full(shape, value, np.float32), why
    if row.layout in ("kernel", "stem"):
        tensor = _axes(tensor, theirs.kernels, ours.kernels)
    if row.layout == "stem" and tensor.ndim == len(shape) == 4:
        return _channels(tensor, shape, -2 if ours.kernels == "HWIO" else 1)
    if row.layout == "flat" and tensor.size == np.prod(shape):
        return tensor.reshape(shape), ""
    if row.layout == "variance" and theirs.norm_eps != ours.norm_eps:
        shift = theirs.norm_eps - ours.norm_eps
        return tensor + np.asarray(
            shift, tensor.dtype
        ), f"shifted by {shift:g}, the epsilons differ"
    if row.layout == "positions" and tensor.ndim == len(shape) == 3:
        return refitted(tensor, shape[1])
    return tensor, ""


def written(leaf: np.ndarray, row: Row, dialect: Dialect) -> np.ndarray:
    """The leaf as the file has it."""
    theirs, ours = dialect.theirs, dialect.ours
    if row.layout in ("kernel", "stem"):
        leaf = _axes(leaf, ours.kernels, theirs.kernels)
    if row.layout == "variance" and theirs.norm_eps != ours.norm_eps:
        leaf = leaf - np.asarray(theirs.norm_eps - ours.norm_eps, leaf.dtype)
    if row.layout == "flat" and row.shape is not None:
        leaf = leaf.reshape(row.shape)
    return np.ascontiguousarray(leaf)


def _axes(kernel: np.ndarray, before: str, after: str) -> np.ndarray:
    """OIHW (or OI) to HWIO (or IO), or back; what is no kernel stays."""
    if before == after or kernel.ndim < 2:
        return kernel
    if after == "HWIO":
        return kernel.transpose(*range(2, kernel.ndim), 1, 0)
    return kernel.transpose(-1, -2, *range(kernel.ndim - 2))


def _channels(kernel: np.ndarray, shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, str]:
    """A kernel for grey pictures instead of colour ones or the other way round, so that a picture
    whose channels are all alike gives what it gave."""
    has, wants = kernel.shape[axis], shape[axis]
    if has == wants:
        return kernel, ""
    if wants == 1:
        return kernel.sum(axis, keepdims=True), f"summed over its {has} input channels"
    if has == 1:
        repeated = np.repeat(kernel, wants, axis) / np.asarray(wants, kernel.dtype)
        return repeated, f"its one input channel repeated to {wants} and divided by {wants}"
    return kernel, ""
