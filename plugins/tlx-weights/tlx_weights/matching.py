"""From the tensors of a file to the leaves of a model, with every leaf accounted for.

A name in the file is a leaf path, or is translated to one by the backbone's table of foreign
names. PyTorch keeps a layer's outputs in the first axis, Flax, Haiku and Keras in the last: a
kernel that came under a foreign name is turned round. A shape is never changed to make it fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import WeightsError, did_you_mean
from tlx.trees import flat, unflat
from tlx.types import LoadReport, Variables

Layout: TypeAlias = Literal["auto", "torch", "jax"]
"""How kernels lie in the file. torch: (out,in,...) as in PyTorch; jax: (...,in,out) as in Flax,
Haiku and Keras; auto: torch where the name was translated, else jax."""

KERNELS = ("kernel", "w")
"""Last part of the leaf path of a kernel with its outputs last, in Flax and Keras, and Haiku."""
QUIET = "num_batches_tracked"
"""PyTorch's count of batches per normalisation layer; it has no meaning here and no value."""


def match(
    file: object,
    tensors: Mapping[str, np.ndarray],
    like: Variables,
    names: Callable[[str], str | None] | None,
    layout: Layout = "auto",
) -> tuple[Variables, LoadReport]:
    """`like` with the leaves that `tensors` has, and what became of every leaf and every tensor.

    Floats of another width are converted, which the report's `skipped` says once per pair of
    types. Raises WeightsError, naming `file` and the tensor, where two tensors are the same leaf
    and where a tensor that is used holds a number that is not finite."""
    wanted = flat(like)
    chosen: dict[str, str] = {}
    skipped: list[tuple[str, str]] = []
    for name in tensors:
        path = name if name in wanted or names is None else names(name)
        if path is None:
            if name.rpartition(".")[2] != QUIET:
                skipped.append((name, "not a part of this network"))
        elif path not in wanted:
            renamed = "" if path == name else f" {path!r}"
            hint = did_you_mean(path, wanted)
            skipped.append((name, f"the model has no such leaf{renamed}.{hint}"))
        elif path in chosen:
            raise WeightsError(
                f"{file} holds the leaf {path!r} twice: as {chosen[path]!r} and as {name!r}. "
                f"Remove one of them from the file."
            )
        else:
            chosen[path] = name

    leaves: dict[str, Any] = {}
    initialised: list[tuple[str, str]] = []
    conversions: Counter[tuple[str, str]] = Counter()
    for path, leaf in wanted.items():
        leaves[path] = leaf
        if path not in chosen:
            initialised.append((path, "the file has no tensor for it"))
            continue
        name = chosen[path]
        tensor = tensors[name]
        if layout == "torch" or (layout == "auto" and path != name):
            tensor = _outputs_last(path, tensor)
        why = _differs(tensor, leaf)
        if why:
            initialised.append((path, why))
            skipped.append((name, why))
            continue
        if tensor.dtype != leaf.dtype:
            conversions[str(tensor.dtype), str(leaf.dtype)] += 1
        leaves[path] = jnp.array(_finite(file, name, tensor.astype(leaf.dtype)))
    for (stored, used), count in conversions.items():
        skipped.append((stored, f"{count} of the loaded leaves were converted to {used}"))
    loaded = tuple(path for path, leaf in leaves.items() if leaf is not wanted[path])
    return unflat(like, leaves), LoadReport(loaded, tuple(initialised), tuple(skipped))


def _outputs_last(path: str, tensor: np.ndarray) -> np.ndarray:
    """(out,in) to (in,out) and (out,in,h,w) to (h,w,in,out); what is no kernel stays."""
    if tensor.ndim < 2 or path.rpartition("/")[2] not in KERNELS:
        return tensor
    return tensor.transpose(*range(2, tensor.ndim), 1, 0)


def _differs(tensor: np.ndarray, leaf: Any) -> str:
    """Why a tensor cannot be this leaf; empty where it can."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return "it is a random key, which is never taken from a file"
    if tensor.shape != leaf.shape:
        return f"its shape is {tensor.shape} in the file and {leaf.shape} in the model"
    both_float = all(jnp.issubdtype(dtype, np.floating) for dtype in (tensor.dtype, leaf.dtype))
    if tensor.dtype != leaf.dtype and not both_float:
        return f"its type is {tensor.dtype} in the file and {leaf.dtype} in the model"
    return ""


def _finite(file: object, name: str, tensor: np.ndarray) -> np.ndarray:
    if jnp.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
        raise WeightsError(
            f"{name!r} in {file} holds a number that is not finite as {tensor.dtype}: the file is "
            f"damaged, or it was saved from a run that had diverged."
        )
    return tensor
