"""Vision Transformers: a picture as a row of patches behind a class token, in twelve blocks.

Dosovitskiy et al. 2021, 'An Image is Worth 16x16 Words', arXiv:2010.11929 (Base); Touvron et al.
2021, 'Training data-efficient image transformers', arXiv:2012.12877 (Tiny, Small). DeiT, DINO,
DINOv2 and MAE train networks of these shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

from flax import nnx
from jax import Array
from tlx_image import ImageInput
from tlx_image.image_input import with_channels

from tlx.errors import ConfigError
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.nnx_backbone import NnxBackbone
from tlx_flax.visible import Visible
from tlx_flax.vit_names import dialects
from tlx_flax.vit_parts import Block, Embed, layer_norm

Pool: TypeAlias = Literal["token", "mean"]

INPUTS = ImageInput(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=0.9, interpolation="bicubic")
"""Of the paper's own networks and of timm's `vit_*`. DeiT and DINO take mean and standard
deviation of ImageNet, which has to come with their weights."""


class VisionTransformer(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        patch: int,
        size: int,
        channels: int,
        eps: float,
        dropout: float,
        drop_path: float,
        layer_scale: float,
        registers: int,
        pool: Pool,
        rngs: nnx.Rngs,
    ):
        self.leading, self.pool = 1 + registers, pool
        self.embed = Embed(size, channels, patch, width, registers, dropout, rngs)
        for number in range(depth):
            # Stochastic depth drops more the deeper a block lies, nothing of the first.
            skip = drop_path * number / max(depth - 1, 1)
            block = Block(width, heads, eps, dropout, skip, layer_scale, rngs)
            setattr(self, f"block{number}", block)
        self.norm = layer_norm(width, eps, rngs)

    def stage(
        self, name: str, x: Array, visible: Visible | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise. What is hidden
        gets no token, so only `embed` has to know of it."""
        if name != "norm":
            x = self.embed(x, visible) if name == "embed" else getattr(self, name)(x)
            return x, {name: x}
        tokens = self.norm(x)
        pooled = tokens[:, 0]
        if self.pool == "mean":
            pooled = self.norm(x[:, self.leading :].mean(1))
        return tokens, {"tokens": tokens, "cls": tokens[:, 0], "pooled": pooled}


def vit(
    size: int = 32,
    patch: int = 4,
    width: int = 96,
    heads: int = 3,
    depth: int = 4,
    channels: int = 3,
    eps: float = 1e-6,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    layer_scale: float = 0.0,
    registers: int = 0,
    pool: Pool = "token",
) -> Backbone:
    """A Vision Transformer of any shape; as it stands, one for small pictures.

    Args:
        size: side of the pictures in pixels, for which there are position embeddings. Those of a
            file with another grid are resampled.
        patch: side of a patch, which divides `size`.
        width: numbers per token; the MLP is four times as wide.
        heads: of attention; they divide `width`.
        depth: how many blocks.
        channels: of the pictures.
        eps: of layer norm: 1e-6 in timm and DINO, 1e-12 in transformers.
        dropout: of embedded tokens, and of what attention and MLP give and the latter holds.
        drop_path: stochastic depth: how often the last block is left out; less, in a straight
            line, for those before it.
        layer_scale: what a learnt factor per channel behind attention and MLP starts from (1e-5
            in DINOv2); 0 for none.
        registers: extra tokens without position, behind the class token.
        pool: what `pooled` is: the class token, or the norm of the mean of all patches (timm's
            `global_pool="avg"` with `fc_norm`).

    Raises ConfigError for a size or a width that cannot be divided, or a rate outside of 0..1.
    """
    for name, number in (("patch", patch), ("width", width), ("heads", heads), ("depth", depth)):
        _refuse(number < 1, f"{name} = {number} must be at least 1")
    _refuse(size < 1 or size % patch, f"size = {size} must be a multiple of patch = {patch}")
    _refuse(width % heads, f"width = {width} must be a multiple of heads = {heads}")
    for name, rate in (("dropout", dropout), ("drop_path", drop_path)):
        _refuse(not 0 <= rate < 1, f"{name} = {rate} must be from 0 to below 1")
    for name, number in (("eps", eps), ("layer_scale", layer_scale), ("registers", registers)):
        _refuse(number < 0, f"{name} = {number} must not be negative")
    blocks = tuple(f"block{number}" for number in range(depth))
    features = (
        *(FeatureSpec(name, "tokens", width) for name in ("embed", *blocks, "tokens")),
        FeatureSpec("cls", "vector", width),
        FeatureSpec("pooled", "vector", width),
    )
    options = (
        ("channels", channels),
        ("depth", depth),
        ("drop_path", drop_path),
        ("dropout", dropout),
        ("eps", eps),
        ("heads", heads),
        ("layer_scale", layer_scale),
        ("patch", patch),
        ("pool", pool),
        ("registers", registers),
        ("size", size),
        ("width", width),
    )
    inputs = with_channels(replace(INPUTS, size=(size, size), fixed=True), channels)
    stages = ("embed", *blocks, "norm")
    names = dialects(width, heads, pool, eps)
    return NnxBackbone(
        VisionTransformer, features, inputs, options, stages, dialects=names, cell=patch
    )


def _refuse(wrong: object, why: str) -> None:
    if wrong:
        raise ConfigError(f"A Vision Transformer's {why}.")


def _named(patch: int, width: int, heads: int) -> Callable[..., Backbone]:
    def named(
        size: int = 224,
        channels: int = 3,
        eps: float = 1e-6,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.0,
        registers: int = 0,
        pool: Pool = "token",
    ) -> Backbone:
        """A Vision Transformer of twelve blocks; the options are those of `vit`."""
        return vit(
            size=size, patch=patch, width=width, heads=heads, depth=12, channels=channels,
            eps=eps, dropout=dropout, drop_path=drop_path, layer_scale=layer_scale,
            registers=registers, pool=pool,
        )  # fmt: skip

    return named


vit_tiny_patch16 = _named(16, 192, 3)
vit_small_patch8 = _named(8, 384, 6)
vit_small_patch14 = _named(14, 384, 6)
vit_small_patch16 = _named(16, 384, 6)
vit_small_patch32 = _named(32, 384, 6)
vit_base_patch8 = _named(8, 768, 12)
vit_base_patch14 = _named(14, 768, 12)
vit_base_patch16 = _named(16, 768, 12)
vit_base_patch32 = _named(32, 768, 12)
