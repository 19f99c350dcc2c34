"""The names of a ResNet's parameters in other libraries' files, one table for each kind of file.

A line of a table is a convolution, the batch norm behind it, and both of them here, where `*` is
`conv` or `bn`. Variants differ in two places that must not be mixed up: `bn1` is the first norm of
a plain stem and the last of a deep one, and `downsample.1` is a norm where a convolution alone
changes the size and a convolution where pixels are averaged before it.
"""

from __future__ import annotations

from typing import TypeAlias

from tlx.contracts.dialect import Dialect, Row
from tlx_flax.rows import conv, dense, folded_norm, norm

ARCHITECTURES = ("resnet[0-9]*", "wide_resnet*", "resnext*", "tv_res*", "ssl_res*", "swsl_res*")
"""What timm calls networks of this family. One with squeeze-excite, a blurred pooling or another
attention goes by another name, even where it has the same tensors."""
Table: TypeAlias = tuple[tuple[str, str, str], ...]

# fmt: skip keeps the columns.
_STEM: Table = (("conv1", "bn1", "stem/*1"),)
_DEEP_STEM: Table = (
    ("conv1.0", "conv1.1", "stem/*1"),
    ("conv1.3", "conv1.4", "stem/*2"),
    ("conv1.6", "bn1",     "stem/*3"),
)  # fmt: skip
_BLOCK: Table = (("layer{s}.{b}.conv{n}", "layer{s}.{b}.bn{n}", "stage{s}/block{b}/*{n}"),)
_DOWNSAMPLE: Table = (
    ("layer{s}.{b}.downsample.0", "layer{s}.{b}.downsample.1", "stage{s}/block{b}/shortcut/*"),
)
_POOLED_DOWNSAMPLE: Table = (
    ("layer{s}.{b}.downsample.1", "layer{s}.{b}.downsample.2", "stage{s}/block{b}/shortcut/*"),
)
_SHORTCUT: Table = (
    ("layer{s}.{b}.shortcut.0", "layer{s}.{b}.shortcut.1", "stage{s}/block{b}/shortcut/*"),
)


_TRANSFORMERS: Table = tuple(
    (f"{place}.convolution", f"{place}.normalization", ours)
    for place, ours in (
        ("embedder.embedder", "stem/*1"),
        ("encoder.stages.{s}.layers.{b}.layer.{n}", "stage{s+1}/block{b}/*{n+1}"),
        ("encoder.stages.{s}.layers.{b}.shortcut", "stage{s+1}/block{b}/shortcut/*"),
    )
)


def _rows(table: Table, *, folded: bool = False) -> tuple[Row, ...]:
    """The rows of convolutions without bias and their norms; or of convolutions whose bias is
    what is left of the norm behind them."""
    found: list[Row] = []
    for their_conv, their_norm, ours in table:
        ours_conv, ours_norm = (f"backbone/{ours.replace('*', kind)}" for kind in ("conv", "bn"))
        layout = "stem" if ours == "stem/*1" else "kernel"
        found += conv(their_conv, ours_conv, bias=False, layout=layout)
        found += folded_norm(their_conv, ours_norm) if folded else norm(their_norm, ours_norm)
    return tuple(found)


def resnet_dialects(*, deep: bool = False, pooled: bool = False) -> tuple[Dialect, ...]:
    """The kinds of files for a network with a `deep` stem and `pooled` shortcuts, or without.

    timm: also torchvision's, and what else took its names from there. akamaster: the CIFAR ResNets
    in PyTorch that say `shortcut` and `linear`. transformers: with and without its classifier.
    folded: timm's names, batch norm folded into the convolutions."""
    trunk = (_DEEP_STEM if deep else _STEM) + _BLOCK
    whole = trunk + (_POOLED_DOWNSAMPLE if pooled else _DOWNSAMPLE)
    found = (
        Dialect("timm", (*_rows(whole), *dense("fc", "head")), architectures=ARCHITECTURES),
        Dialect("folded", (*_rows(whole, folded=True), *dense("fc", "head"))),
    )
    if deep or pooled:
        return found
    theirs = (*_rows(_TRANSFORMERS), *dense("classifier.1", "head"))
    return (
        found[0],
        Dialect("akamaster", (*_rows(trunk + _SHORTCUT), *dense("linear", "head"))),
        Dialect("transformers", theirs, root="resnet.", architectures=("resnet",)),
        found[1],
    )
