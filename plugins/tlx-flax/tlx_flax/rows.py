"""Rows of a table of names for the usual layers, as PyTorch calls their tensors.

`theirs` names a layer in somebody's file, `ours` the same layer below `params/` and `state/`, such
as `backbone/stem/conv1` or `head`. Each function gives the rows of one layer, ready to be unpacked
into the `rows` of a Dialect.
"""

from __future__ import annotations

from tlx.contracts.dialect import Layout, Row


def conv(
    theirs: str, ours: str, *, bias: bool = True, layout: Layout = "kernel"
) -> tuple[Row, ...]:
    """A convolution; `layout="stem"` for one that reads the picture."""
    return dense(theirs, ours, bias=bias, layout=layout)


def dense(
    theirs: str, ours: str, *, bias: bool = True, layout: Layout = "kernel"
) -> tuple[Row, ...]:
    """A dense layer, such as a classifier."""
    kernel = Row(f"{theirs}.weight", f"params/{ours}/kernel", layout)
    return (kernel, Row(f"{theirs}.bias", f"params/{ours}/bias")) if bias else (kernel,)


def layer_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """A norm without statistics: scale and bias."""
    return (
        Row(f"{theirs}.weight", f"params/{ours}/scale"),
        Row(f"{theirs}.bias", f"params/{ours}/bias"),
    )


def norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """Batch norm: scale, bias and the running statistics."""
    return (
        *layer_norm(theirs, ours),
        Row(f"{theirs}.running_mean", f"state/{ours}/mean"),
        Row(f"{theirs}.running_var", f"state/{ours}/var", "variance"),
    )


def folded_norm(theirs: str, ours: str) -> tuple[Row, ...]:
    """Batch norm that went into the convolution `theirs`: that one's bias is all that is left, and
    says that the rest is there, too."""
    bias = f"{theirs}.bias"
    return (
        Row(bias, f"params/{ours}/bias"),
        Row(bias, f"params/{ours}/scale", "one"),
        Row(bias, f"state/{ours}/mean", "zero"),
        Row(bias, f"state/{ours}/var", "unit"),
    )
