"""A convolutional network over sequences: symbols of DNA or proteins, or signals over time.

Each stage is a convolution over the steps, layer norm over the channels of each step, a rectifier
and max pooling by two, as in Basset (Kelley et al. 2016, 'Basset: learning the regulatory code of
the accessible genome with deep convolutional neural networks', figure 1) with layer norm in place
of batch norm, whose statistics padding would move. Steps behind the end of a sequence are zeros in
every layer, so that padding changes nothing.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from tlx.data.sequence_input import SequenceInput
from tlx.errors import ConfigError
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.nnx_backbone import NnxBackbone

Pool: TypeAlias = Literal["mean", "steps"]
SHORT = 64
"""Steps up to which a convolution on a CPU is one product: XLA needs 16 times as long for 64
channels of 8 steps under a kernel of 9."""


class Conv(nnx.Module):
    """A convolution over `kernel` steps, an odd number, padded with zeros on both sides."""

    def __init__(self, cin: int, cout: int, kernel: int, rngs: nnx.Rngs):
        he_normal = nnx.initializers.he_normal()
        self.kernel = nnx.Param(he_normal(rngs.params(), (kernel, cin, cout)))
        self.bias = nnx.Param(jnp.zeros(cout))

    def __call__(self, x: Array) -> Array:
        """(B,T,cin) to (B,T,cout)."""
        kernel = self.kernel.get_value().astype(x.dtype)
        if x.shape[1] <= SHORT:
            made = lax.platform_dependent(x, kernel, cpu=as_product, default=convolution)
        else:
            made = convolution(x, kernel)
        return made + self.bias.get_value().astype(x.dtype)


def convolution(x: Array, kernel: Array) -> Array:
    """(B,T,cin) under (n,cin,cout), as XLA has it."""
    axes = ("NHC", "HIO", "NHC")
    return lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=axes)


def as_product(x: Array, kernel: Array) -> Array:
    """The same: what lies under the window at each step, times the kernel as a matrix."""
    size, steps = len(kernel), x.shape[1]
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2), (0, 0)))
    windows = jnp.concatenate([padded[:, n : n + steps] for n in range(size)], axis=-1)
    return windows @ kernel.reshape(-1, kernel.shape[2])


class Stage(nnx.Module):
    """A convolution, a norm, a rectifier, and half as many steps."""

    def __init__(self, cin: int, cout: int, kernel: int, rngs: nnx.Rngs):
        self.conv = Conv(cin, cout, kernel, rngs)
        self.norm = nnx.LayerNorm(cout, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> tuple[Array, Array]:
        """(B,T,cin) and (B,T) to (B,⌈T/2⌉,cout) and (B,⌈T/2⌉)."""
        x = nnx.relu(self.norm(self.conv(x))) * mask[..., None].astype(x.dtype)
        return _by_two(x).max(2), _by_two(mask).any(2)


def _by_two(x: Array) -> Array:
    """(B,T,...) as (B,⌈T/2⌉,2,...); what is pooled of a last step alone is zero or more."""
    batch, steps, *rest = x.shape
    padded = jnp.pad(x, ((0, 0), (0, steps % 2), *((0, 0),) * len(rest)))
    return padded.reshape(batch, -1, 2, *rest)


class Conv1d(nnx.Module):
    """The stages `stage1`, `stage2` and so on, each twice as wide as the one before."""

    def __init__(self, cin: int, width: int, stages: int, kernel: int, pool: Pool, rngs: nnx.Rngs):
        self.last, self.pool = f"stage{stages}", pool
        for number in range(stages):
            setattr(self, f"stage{number + 1}", Stage(cin, width * 2**number, kernel, rngs))
            cin = width * 2**number

    def stage(self, name: str, carry: Any) -> tuple[Any, dict[str, Array]]:
        """One stage by name: `values` (B,T,C) and `mask` (B,T) for the next one, and the features
        that arise."""
        x, mask = getattr(self, name)(carry["values"], carry["mask"])
        features = {name: x}
        if name == self.last and self.pool == "steps":
            features["pooled"] = x.reshape(len(x), -1)
        elif name == self.last:
            steps = jnp.maximum(mask.sum(1, keepdims=True), 1).astype(x.dtype)
            features["pooled"] = x.sum(1) / steps
        return {"values": x, "mask": mask}, features


def conv1d(
    alphabet: str = "",
    channels: int = 1,
    length: int | None = None,
    width: int = 32,
    stages: int = 3,
    kernel: int = 7,
    pool: Pool = "mean",
) -> Backbone:
    """`stages` of `width`, twice `width` and so on, over sequences.

    Args:
        alphabet: the symbols, such as "ACGT"; "" for signals.
        channels: of a signal.
        length: steps that are looked at; as many as the longest training example has where nobody
            says it.
        width: channels behind the first stage.
        stages: how many; each halves the number of steps.
        kernel: steps that a convolution sees.
        pool: what `pooled` is of the last stage: the mean over the steps of the sequence, or all
            `steps` one after the other, where it matters at which one something is; that needs a
            `length`.
    """
    for name, value in {"channels": channels, "width": width, "stages": stages}.items():
        if value < 1:
            raise ConfigError(f"conv1d: {name} = {value}; there has to be one at least.")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"conv1d: kernel = {kernel}; it has to be odd, to have a centre.")
    if pool == "steps" and length is None:
        raise ConfigError('conv1d: pool = "steps" needs a length: so many steps are pooled.')
    names = tuple(f"stage{number + 1}" for number in range(stages))
    features = tuple(
        FeatureSpec(name, "tokens", width * 2**number) for number, name in enumerate(names)
    )
    own = SequenceInput(alphabet, length) if alphabet else SequenceInput(None, length, channels)
    left = -(-length // 2**stages) if pool == "steps" and length else 1
    pooled = FeatureSpec("pooled", "vector", left * features[-1].channels)
    options = {"cin": len(alphabet) or channels, "kernel": kernel, "stages": stages}
    options |= {"width": width, "pool": pool}
    pairs = tuple(sorted(options.items()))
    return NnxBackbone(Conv1d, (*features, pooled), own, pairs, names)
