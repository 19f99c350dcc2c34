"""Parallel residual adapters: a 1x1 convolution beside every larger one.

y = W * x + A * x, where only A, the norms and the head belong to the target (Rebuffi, Bilen and
Vedaldi 2018, arXiv:1803.10082, section 3). A 1x1 convolution looks where the larger one has its
centre, so A is added to the kernel's centre and costs nothing when the network is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Backbone, Phase
from tlx.types import Batch, NormPolicy, Params, Variables
from tlx_strategies import supervised
from tlx_strategies.kernels import Kernel, added, beside, kernels, targeted


@final
@dataclass(frozen=True)
class Adapters:
    """Train an adapter A for every convolution larger than 1x1, the norms and the head.

    A convolution in groups has an adapter in the same groups. A starts at 0, which is the source;
    the paper regularises it more where labels are few (weight_decay of the run's optimizer).

    Args:
        targets: globs over leaf paths (`backbone/stage3/*`); none is every convolution whose
            window is of odd size, which is what has a centre.
        norm: what batch norm does. 'train' follows the target's statistics, as in the paper, and
            scales and offsets move; 'frozen' keeps the statistics, 'frozen_affine' these as well.
    """

    targets: tuple[str, ...] = ()
    norm: NormPolicy = "train"

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The adapters, each as the kernel of a 1x1 convolution in the layout of the network:
        (1,1,I,O) or (O,I,1,1).

        Raises ConfigError for a backbone without such convolutions."""
        odd = {path: k for path, k in kernels(model, batch).items() if _has_centre(k)}
        if not odd:
            raise ConfigError(
                "The strategy 'adapters' goes beside convolutions with a window of 3x3 or another "
                "odd size, and this backbone has none. The strategy 'lora' takes any kernel."
            )
        return Variables(
            beside(
                {
                    path: {"adapter": jnp.zeros(_small(kernel), kernel.dtype)}
                    for path, kernel in targeted(odd, self.targets).items()
                }
            ),
            {},
        )

    def effective(self, params: Params) -> Params:
        """The parameters with every adapter added to the centre of its kernel."""
        return added(params, _at_the_centre)

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head."""
        supervised.require_head(model, "adapters")
        group = NormsOf(model.backbone)
        return (supervised.training("adapters", steps, group, {}, self.norm),)


@final
@dataclass(frozen=True)
class NormsOf:
    """The group of a leaf: its part, where only the norms of the backbone are not 'frozen'."""

    backbone: Backbone

    def __call__(self, path: str) -> str:
        """Leaf path -> group."""
        if supervised.part(path) != "backbone":
            return supervised.part(path)
        kind = self.backbone.leaf(path.removeprefix("backbone/")).kind
        return "backbone" if kind == "norm" else "frozen"


def _window(kernel: Kernel) -> tuple[int, ...]:
    """The axes over which a convolution of pictures slides: behind the channels if its outputs
    come first, else in front. None where the kernel is no such convolution."""
    own = [axis for axis in range(len(kernel.shape)) if axis not in kernel.layers]
    if len(own) != 4 or len(kernel.out) != 1:
        return ()
    return tuple(own[2:] if kernel.out == (own[0],) else own[:2])


def _has_centre(kernel: Kernel) -> bool:
    """Whether it is a convolution of pictures with an odd window larger than 1x1."""
    sides = [kernel.shape[axis] for axis in _window(kernel)]
    return any(side > 1 for side in sides) and all(side % 2 for side in sides)


def _small(kernel: Kernel) -> tuple[int, ...]:
    window = _window(kernel)
    return tuple(1 if axis in window else size for axis, size in enumerate(kernel.shape))


def _at_the_centre(shape: tuple[int, ...], own: Mapping[str, Array]) -> Array:
    small = own["adapter"]
    around = [
        ((size - one) // 2,) * 2 for size, one in zip(shape, small.shape, strict=True)
    ]  # nothing where the sizes are equal: the axes of the channels
    return jnp.pad(small, around)
