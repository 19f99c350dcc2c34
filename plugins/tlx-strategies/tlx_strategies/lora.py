"""LoRA: every kernel stays as it was loaded and gets a learnt difference of low rank.

W = W⁰ + (alpha / r) A·B with A of as many columns as B has rows, r of them (Hu et al. 2022,
arXiv:2106.09685, section 4.1, whose B·A has the axes the other way round). The difference can be
added to the kernel for good, so that the network which is saved and used is no slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError, listed
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, NormPolicy, Params, Variables
from tlx_strategies import supervised
from tlx_strategies.kernels import Kernel, added, beside, kernels, targeted


@final
@dataclass(frozen=True)
class LoRA:
    """Train the factors A and B of kernels of the backbone, and the head; keep all else.

    For a kernel that maps n inputs (of a convolution: those under its window, of one group) to m
    outputs, A is n x r and B is r x m; in a stack of layers each has its own.
    A convolution becomes the sum of itself and of a convolution A to r channels, with the same
    window, stride, padding and groups, followed by the 1x1 convolution B; the groups share A and
    each has its columns of B. A is random, normal with variance 1/n, and B is 0, so that training
    starts at the source.

    Args:
        rank: r. At most n and m of every target: of that rank the kernel is itself.
        alpha: the difference counts alpha / rank, so that another rank does not ask for another
            learning rate.
        targets: globs over leaf paths (`backbone/stage3/*`, `*/conv2/kernel`); none is every
            kernel of the backbone.
        norm: what batch norm does: 'frozen' keeps the source's statistics, 'train' follows the
            target's. Scales and offsets never move.
    """

    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ()
    norm: NormPolicy = "frozen"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.rank < 1:
            raise ConfigError(
                f"rank is the number of columns of A and must be at least 1, not {self.rank}. The "
                f"strategy 'feature_transfer' keeps the backbone."
            )
        if not self.alpha > 0:
            raise ConfigError(
                f"alpha scales the difference by alpha / rank and must be above 0, not "
                f"{self.alpha}. The rank ({self.rank}) is a good start."
            )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The factors, each with the axes of the kernel and r behind them: A has a 1 in the place
        of outputs and B in that of inputs. An axis that counts layers is in both, so each layer
        has factors of its own.

        Raises ConfigError where a target has a lower rank of its own, where nobody knows its
        outputs, or a glob matches none."""
        chosen = targeted(kernels(model, batch), self.targets)
        if not chosen:
            raise ConfigError(
                "The strategy 'lora' changes kernels, and this backbone has none. Use 'finetune'."
            )
        low = {path: own_rank(k) for path, k in chosen.items() if own_rank(k) < self.rank}
        if low:
            first = [f"{path} ({rank})" for path, rank in low.items()]
            more = f" and {len(first) - 3} more" if len(first) > 3 else ""
            raise ConfigError(
                f"rank = {self.rank} is above the rank that a kernel has itself: "
                f"{listed(first[:3])}{more}. Lower it to {min(low.values())}, or name other "
                f"kernels in targets."
            )
        keys = jax.random.split(rng, len(chosen))
        return Variables(
            beside(
                {
                    path: self._factors(key, kernel)
                    for key, (path, kernel) in zip(keys, chosen.items(), strict=True)
                }
            ),
            {},
        )

    def _factors(self, rng: Array, kernel: Kernel) -> dict[str, Array]:
        shape, dtype, out, layers = kernel
        axes = range(len(shape))
        first = [1 if axis in out else shape[axis] for axis in axes]
        second = [shape[axis] if axis in out + layers else 1 for axis in axes]
        return {
            "A": jax.random.normal(rng, (*first, self.rank), dtype) / math.sqrt(kernel.inputs),
            "B": jnp.zeros((*second, self.rank), dtype),
        }

    def effective(self, params: Params) -> Params:
        """The parameters with (alpha / rank) A·B added to every target."""
        scale = self.alpha / self.rank
        return added(params, lambda _, factors: scale * product(factors))

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head."""
        supervised.require_head(model, "lora")
        return (supervised.training("lora", steps, supervised.head_only, {}, self.norm),)


def own_rank(kernel: Kernel) -> int:
    """The rank that a kernel can have as a matrix from its inputs to its outputs."""
    return min(kernel.inputs, kernel.outputs)


def product(factors: Mapping[str, Array]) -> Array:
    """A·B with the shape of the kernel, in full precision: it is small, and becomes a weight."""
    first, second = factors["A"], factors["B"]
    axes = list(range(first.ndim))
    precise = jax.lax.Precision.HIGHEST
    return jnp.einsum(first, axes, second, axes, axes[:-1], precision=precise)
