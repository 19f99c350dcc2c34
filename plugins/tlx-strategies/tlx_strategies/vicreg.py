"""VICReg: views of a picture agree, dimensions vary over the batch and say different things.

For the embeddings Z and Z' of two views of B pictures, D wide, the loss is
a mean((Z - Z')^2) + b (v(Z) + v(Z')) / 2 + c (w(Z) + w(Z')), with v(Z) the mean over dimensions of
max(0, 1 - sqrt(Var + 1e-4)) and w(Z) the sum of the squared covariances of different dimensions,
over D (Bardes et al. 2022, arXiv:2105.04906, section 4.1). As in the authors' code, for which a, b
and c were chosen, the first term is a mean over dimensions too and the second is halved.
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

GAMMA, EPSILON = 1.0, 1e-4
"""The deviation that a dimension should have, and what keeps the root's slope finite."""


def vicreg(
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    projector: tuple[int, ...] = (2048, 2048, 2048),
    views: Steps | None = None,
    second_view: Steps | None = None,
) -> VICReg:
    """Two views that agree, in dimensions that are held apart.

    The weights are the paper's (section 4.2), and so are the views, which are BYOL's (small
    pictures are neither blurred nor solarised). There a ResNet-50 was trained on ImageNet with
    batches of 2048, LARS, learning rate 0.2 per 256 pictures, weight decay 1e-6 and three layers of
    8192; on CIFAR-10 batches of 256 and a quarter of that width do.

    Args:
        invariance: weight of the squared distance between the views.
        variance: weight of the hinge on each dimension's deviation.
        covariance: weight of the squared covariances.
        projector: widths of its layers.
        views: augmentations of both views in place of the paper's, by name or as tables.
        second_view: those of the second view, where they differ.
    """
    drawn = two_views(views, second_view, SMALL, LARGE)
    return VICReg(drawn, invariance, variance, covariance, tuple(projector))


@final
@dataclass(frozen=True)
class VICReg:
    """Train backbone and projector under three terms: invariance, variance, covariance."""

    whole_batch: ClassVar[str] = "its variances are those of all pictures together"
    smallest_batch: ClassVar[int] = 2
    views: Views
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    projector: tuple[int, ...] = (2048, 2048, 2048)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        for name in ("invariance", "variance", "covariance"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is a weight, 0 or more, not {getattr(self, name)}.")
        projector.check_widths("projector", self.projector)

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The last step: a lower loss does not mean better features."""
        return "last"

    def trivial(self, batch_size: int) -> float:
        """Features without any variance: the hinge alone, at its height."""
        return self.variance * (GAMMA - EPSILON**0.5)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The projector."""
        made = projector.init(rng, width(model), self.projector)
        return Variables({"projector": made.params}, {"projector": made.state})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head."""
        return label_free.whole("vicreg", model, steps, self.forward)

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
        """Two views to a loss per picture: its own distance, and what the batch has in common.
        `inputs` and features are those of the first view; there are no outputs."""
        for_views, for_model = jax.random.split(rng)
        views, weight = self.views.draw(batch, for_views, mode), batch.weight
        seen = embed(model, variables, views, weight, rng=for_model, mode=mode)
        loss, inputs = self.loss(seen.z, weight), {"image": views[0]}
        return Forward(loss, inputs, seen.features, None, seen.state)

    def loss(self, z: Array, weight: Array) -> Array:
        """(B,) from embeddings (2,B,D) without the rows whose weight is 0."""
        loss = self.invariance * jnp.square(z[0] - z[1]).mean(-1)
        for each in z:
            hinge, apart = spread(each, weight)
            loss = loss + self.variance * hinge / 2 + self.covariance * apart
        return loss


def spread(z: Array, weight: Array) -> tuple[Array, Array]:
    """(v, w), two scalars, of embeddings (B,D) without the rows whose weight is 0."""
    found = moments(z, weight)
    hinge = jax.nn.relu(GAMMA - jnp.sqrt(found.unbiased + EPSILON)).mean()
    covariance = found.centred.T @ found.centred / jnp.maximum(found.number - 1, 1)
    others = covariance * (1 - jnp.eye(z.shape[-1]))
    return hinge, jnp.square(others).sum() / z.shape[-1]
