"""SimCLR: find the other view of the same picture among all views of a batch.

For 2B views with unit embeddings z, the loss of view i with its partner j is
-log(exp(z_i z_j / tau) / sum over k != i of exp(z_i z_k / tau)): NT-Xent (Chen et al. 2020,
arXiv:2002.05709, section 2.1, equation 1). All other views are the negatives, so larger batches are
a harder task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Constants, Forward, Mode, Variables
from tlx_strategies import label_free, projector
from tlx_strategies.embedding import embed, unit, width
from tlx_strategies.views import Steps, Views, recipe, two_views


def simclr(
    temperature: float = 0.5,
    projector: tuple[int, ...] = (512, 128),
    views: Steps | None = None,
    second_view: Steps | None = None,
) -> SimCLR:
    """NT-Xent between two views of every picture.

    The temperature is the paper's for CIFAR-10 (appendix B.9; 0.1 for ImageNet, table 5), where it
    trained ResNet-50 with batches of 256 to 4096, LARS, learning rate 0.5 to 1.5 and weight decay
    1e-6 for 100 to 1000 epochs. Views of small pictures are its colours of strength 0.5 without
    blur, and crops from 0.2 of the area on; of large ones strength 1 with blur (appendix A).

    Args:
        temperature: tau, above 0; less makes the nearest negatives count more.
        projector: widths of its layers; the paper's are as wide as the features, then 128.
        views: augmentations of both views in place of the paper's, by name or as tables.
        second_view: those of the second view, where they differ.
    """
    small = recipe((0.2, 1.0), (0.4, 0.4, 0.4, 0.1))
    large = recipe((0.08, 1.0), (0.8, 0.8, 0.8, 0.2), blur=0.5)
    drawn = two_views(views, second_view, (small, small), (large, large))
    return SimCLR(drawn, temperature, tuple(projector))


@final
@dataclass(frozen=True)
class SimCLR:
    """Train backbone and projector to tell the views of one picture from all others."""

    whole_batch: ClassVar[str] = "the negatives of a picture are all others"
    smallest_batch: ClassVar[int] = 2
    views: Views
    temperature: float = 0.5
    projector: tuple[int, ...] = (512, 128)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature divides the similarities and must be above 0, not {self.temperature}."
            )
        projector.check_widths("projector", self.projector)

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The last step: features go on getting better where the loss no longer does."""
        return "last"

    def trivial(self, batch_size: int) -> float:
        """log(2B - 1): all views are equally far from each other."""
        return float(np.log(2 * batch_size - 1))

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """The projector."""
        made = projector.init(rng, width(model), self.projector)
        return Variables({"projector": made.params}, {"projector": made.state})

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head."""
        return label_free.whole("simclr", model, steps, self.forward)

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
        """Two views to a loss per picture, the mean of both directions. `inputs` and features are
        those of the first view; there are no outputs."""
        for_views, for_model = jax.random.split(rng)
        views = self.views.draw(batch, for_views, mode)
        seen = embed(model, variables, views, batch.weight, rng=for_model, mode=mode)
        loss = nt_xent(seen.z, batch.weight, self.temperature)
        return Forward(loss, {"image": views[0]}, seen.features, None, seen.state)


def nt_xent(z: Array, weight: Array, temperature: float) -> Array:
    """(B,) from embeddings (2,B,D). Rows with weight 0 are nobody's negatives."""
    batch = z.shape[1]
    rows = unit(z).reshape(2 * batch, -1)
    logits = rows @ rows.T / temperature
    number = jnp.arange(2 * batch)
    partner = (number + batch) % (2 * batch)
    one, other = number[:, None], number[None]
    # The partner counts in any case, so that padding has a finite loss.
    among = ((other != one) & (jnp.tile(weight, 2) > 0)) | (other == partner[:, None])
    each = jax.nn.logsumexp(logits, axis=1, where=among) - logits[number, partner]
    return each.reshape(2, batch).mean(0)
