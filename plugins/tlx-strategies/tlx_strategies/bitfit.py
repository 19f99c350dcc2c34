"""BitFit: only biases move, and the head.

A few numbers in a thousand, with which large models are fitted about as well as with all of them
where labels are few (Ben Zaken et al. 2022, arXiv:2106.10199, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Backbone, Phase
from tlx.types import Batch, NormPolicy, Variables
from tlx_strategies import stages, supervised

OFFSETS = ("b", "beta", "bias", "offset")
"""What the frameworks call the bias of a norm."""


@final
@dataclass(frozen=True)
class BitFit:
    """Train the head and every bias of the backbone, the offsets of its norms included.

    In networks whose convolutions have no bias, such as ResNets, these offsets are all there is.

    Args:
        backbone_lr: learning rate of the biases relative to the head's. The paper finds rates
            that are good for biases about ten times those for whole networks.
        norm: what batch norm does: 'frozen' keeps the source's statistics, so that nothing but
            biases changes.
    """

    backbone_lr: float = 1.0
    norm: NormPolicy = "frozen"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        supervised.positive(
            "backbone_lr", self.backbone_lr, "The strategy 'feature_transfer' keeps the backbone."
        )
        if self.norm == "frozen_affine":
            raise ConfigError(
                "The strategy 'bitfit' moves the offsets of norms, and norm = 'frozen_affine' "
                "keeps them. Use norm = 'frozen', which keeps the statistics alone."
            )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return Variables({}, {})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head, or where the backbone has no bias."""
        supervised.require_head(model, "bitfit")
        group = BiasesOf(model.backbone)
        if not any(group(path) == "biases" for path in stages.leaves(model.backbone)):
            raise ConfigError(
                "The strategy 'bitfit' moves biases, and this backbone has none. Use 'finetune', "
                "or 'feature_transfer' for the head alone."
            )
        return (
            supervised.training("bitfit", steps, group, {"biases": self.backbone_lr}, self.norm),
        )


@final
@dataclass(frozen=True)
class BiasesOf:
    """The group of a leaf: 'biases' or 'frozen' in the backbone, its part elsewhere."""

    backbone: Backbone

    def __call__(self, path: str) -> str:
        """Leaf path -> group."""
        if supervised.part(path) != "backbone":
            return supervised.part(path)
        kind = self.backbone.leaf(path.removeprefix("backbone/")).kind
        offset = kind == "norm" and path.rsplit("/", 1)[-1] in OFFSETS
        return "biases" if kind == "bias" or offset else "frozen"
