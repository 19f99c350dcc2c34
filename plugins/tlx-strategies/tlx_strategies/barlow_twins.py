"""Barlow Twins: what two views say of a batch is correlated dimension by dimension, and only so.

With each dimension of both embeddings normalised over the batch, C = Z^T Z' / B is their
cross-correlation, and the loss is sum (1 - C_ii)^2 + lambda sum over i != j of C_ij^2 (Zbontar et
al. 2021, arXiv:2103.03230, section 2.1, equations 1 and 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Constants, Forward, Mode, Variables
from tlx_strategies import label_free, projector
from tlx_strategies.batch_moments import moments
from tlx_strategies.embedding import embed, width
from tlx_strategies.views import LARGE, SMALL, Steps, Views, two_views

EPSILON = 1e-5


def barlow_twins(
    off_diagonal: float = 5e-3,
    projector: tuple[int, ...] = (2048, 2048, 2048),
    views: Steps | None = None,
    second_view: Steps | None = None,
) -> BarlowTwins:
    """A cross-correlation that is to be the identity.

    lambda is the paper's (section 2.2), and so are the views, which are BYOL's (small pictures are
    neither blurred nor solarised). There a ResNet-50 was trained on ImageNet with batches of 2048,
    LARS, learning rate 0.2 per 256 pictures, weight decay 1.5e-6 and three layers of 8192; on
    CIFAR-10 batches of 256 and a quarter of that width do. The loss is a sum over dimensions, so it
    begins at about D: with SGD its learning rate is smaller than other methods'.

    Args:
        off_diagonal: lambda, the weight of correlations between different dimensions.
        projector: widths of its layers.
        views: augmentations of both views in place of the paper's, by name or as tables.
        second_view: those of the second view, where they differ.
    """
    drawn = two_views(views, second_view, SMALL, LARGE)
    return BarlowTwins(drawn, off_diagonal, tuple(projector))


@final
@dataclass(frozen=True)
class BarlowTwins:
    """Train backbone and projector to say the same of both views and nothing twice."""

    whole_batch: ClassVar[str] = "its correlations are those of all pictures together"
    smallest_batch: ClassVar[int] = 2
    views: Views
    off_diagonal: float = 5e-3
    projector: tuple[int, ...] = (2048, 2048, 2048)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.off_diagonal < 0:
            raise ConfigError(f"off_diagonal is a weight, 0 or more, not {self.off_diagonal}.")
        projector.check_widths("projector", self.projector)

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The last step: a lower loss does not mean better features."""
        return "last"

    def trivial(self, batch_size: int) -> float:
        """D: features that are the same everywhere are correlated with nothing."""
        return float(self.projector[-1])

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The projector."""
        made = projector.init(rng, width(model), self.projector)
        return Variables({"projector": made.params}, {"projector": made.state})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head."""
        return label_free.whole("barlow_twins", model, steps, self.forward)

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures and two views of each."""
        return self.views.shown(batch, rng)

    def forward(
        self,
        model: Model,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        mode: Mode,
        progress: Array,
    ) -> Forward:
        """Two views to the batch's loss, given to every picture. `inputs` and features are those of
        the first view; there are no outputs."""
        for_views, for_model = jax.random.split(rng)
        views, weight = self.views.draw(batch, for_views, mode), batch.weight
        seen = embed(model, variables, views, weight, rng=for_model, mode=mode)
        loss = redundancy(seen.z, weight, self.off_diagonal)
        each, inputs = jnp.broadcast_to(loss, weight.shape), {"image": views[0]}
        return Forward(each, inputs, seen.features, None, seen.state)


def redundancy(z: Array, weight: Array, off_diagonal: float) -> Array:
    """The loss, a scalar, of embeddings (2,B,D) without the rows whose weight is 0."""
    one, other = (moments(each, weight) for each in z)
    first, second = (m.centred * jax.lax.rsqrt(m.var + EPSILON) for m in (one, other))
    correlation = first.T @ second / one.number
    same = jnp.eye(z.shape[-1])
    wrong = jnp.square(correlation - same)
    return (wrong * jnp.where(same > 0, 1.0, off_diagonal)).sum()
