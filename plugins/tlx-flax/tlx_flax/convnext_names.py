"""Other people's names for the layers of a ConvNeXt, one column for each kind of file.

The authors' own checkpoints, timm's and those of transformers hold the same tensors in the same
layout. Other implementations of layer scale keep it as one tensor without a layer around it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from tlx.contracts.dialect import Dialect, Row
from tlx_flax.rows import conv, dense, layer_norm

Rows: TypeAlias = Callable[[str, str], tuple[Row, ...]]


def _scale(theirs: str, ours: str) -> tuple[Row, ...]:
    return (Row(theirs, f"params/{ours}/scale"),)


_stem = partial(conv, layout="stem")
_OURS, _TIMM = "stage{s+1}/block{b}", "stages.{s}.blocks.{b}"
_AUTHORS, _TRANSFORMERS = "stages.{s}.{b}", "encoder.stages.{s}.layers.{b}"
_TABLE: tuple[tuple[Rows, str, str, str, str], ...] = (
    # what, ours, timm, facebookresearch/ConvNeXt, transformers
    (_stem, "stem/conv", "stem.0", "downsample_layers.0.0", "embeddings.patch_embeddings"),
    (layer_norm, "stem/norm", "stem.1", "downsample_layers.0.1", "embeddings.layernorm"),
    *(
        (
            rows,
            f"stage{s + 1}/downsample/{layer}",
            f"stages.{s}.downsample.{number}",
            f"downsample_layers.{s}.{number}",
            f"encoder.stages.{s}.downsampling_layer.{number}",
        )
        for s in (1, 2, 3)
        for number, (rows, layer) in enumerate(((layer_norm, "norm"), (conv, "conv")))
    ),
    (conv, f"{_OURS}/dwconv", f"{_TIMM}.conv_dw", f"{_AUTHORS}.dwconv", f"{_TRANSFORMERS}.dwconv"),
    (
        layer_norm,
        f"{_OURS}/norm",
        f"{_TIMM}.norm",
        f"{_AUTHORS}.norm",
        f"{_TRANSFORMERS}.layernorm",
    ),
    (dense, f"{_OURS}/fc1", f"{_TIMM}.mlp.fc1", f"{_AUTHORS}.pwconv1", f"{_TRANSFORMERS}.pwconv1"),
    (dense, f"{_OURS}/fc2", f"{_TIMM}.mlp.fc2", f"{_AUTHORS}.pwconv2", f"{_TRANSFORMERS}.pwconv2"),
    (
        _scale,
        f"{_OURS}/layer_scale",
        f"{_TIMM}.gamma",
        f"{_AUTHORS}.gamma",
        f"{_TRANSFORMERS}.layer_scale_parameter",
    ),
    (layer_norm, "stage4/norm", "head.norm", "norm", "layernorm"),
)


def _body(column: int) -> tuple[Row, ...]:
    return tuple(
        row for rows, ours, *theirs in _TABLE for row in rows(theirs[column], f"backbone/{ours}")
    )


CONVNEXT_DIALECTS = (
    Dialect("timm", (*_body(0), *dense("head.fc", "head")), architectures=("convnext_*",)),
    Dialect("facebook", (*_body(1), *dense("head", "head"))),
    Dialect(
        "transformers",
        (*_body(2), *dense("classifier", "head")),
        root="convnext.",
        architectures=("convnext",),
    ),
)
"""The names of timm, of the authors' repository and of transformers."""
