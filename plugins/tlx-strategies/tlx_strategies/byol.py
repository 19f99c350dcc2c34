"""BYOL: predict what a slowly following teacher says of another view. No negatives.

The loss of two views is 2 - 2 cos(q(z_1), z'_2) + 2 - 2 cos(q(z_2), z'_1), where z is the student's
projection, q a predictor that only the student has, and z' the teacher's projection, through which
no gradient passes (Grill et al. 2020, arXiv:2006.07733, section 3.1, equation 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import jax
from jax import Array

from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Constants, Forward, Mode, Params, State, Variables
from tlx_strategies import label_free, projector, teacher
from tlx_strategies.embedding import embed, unit, width
from tlx_strategies.views import LARGE, SMALL, Steps, Views, two_views

PARTS = ("projector",)
"""What of the strategy the teacher has, too."""


def byol(
    momentum: float = 0.996,
    projector: tuple[int, ...] = (1024, 256),
    predictor: tuple[int, ...] = (1024, 256),
    views: Steps | None = None,
    second_view: Steps | None = None,
) -> BYOL:
    """A student that predicts its teacher.

    The momentum is the paper's, and so are the views (appendix B; small pictures are neither
    blurred nor solarised). There a ResNet-50 was trained on ImageNet with batches of 4096, LARS,
    learning rate 0.2 per 256 pictures, weight decay 1.5e-6 and widths 4096 and 256; on CIFAR-10 a
    quarter of the hidden width and SGD with learning rate 0.06 per 256 do.

    Args:
        momentum: the share of itself that the teacher keeps in the first step; it rises to 1.
        projector: widths of the projector's layers.
        predictor: widths of the predictor's layers, ending as the projector does.
        views: augmentations of both views in place of the paper's, by name or as tables.
        second_view: those of the second view, where they differ.
    """
    drawn = two_views(views, second_view, SMALL, LARGE)
    return BYOL(drawn, momentum, tuple(projector), tuple(predictor))


@final
@dataclass(frozen=True)
class BYOL:
    """Train backbone, projector and predictor towards a teacher that follows the former two."""

    smallest_batch: ClassVar[int] = 2
    views: Views
    momentum: float = 0.996
    projector: tuple[int, ...] = (1024, 256)
    predictor: tuple[int, ...] = (1024, 256)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        teacher.check_momentum(self.momentum)
        projector.check_widths("projector", self.projector)
        projector.check_widths("predictor", self.predictor, like=self.projector)

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The last step: the target moves, so losses of two steps do not compare."""
        return "last"

    def trivial(self, batch_size: int) -> None:
        """None: features that are the same everywhere have the loss 0."""
        return None

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Projector and predictor; the teacher comes with `begin`."""
        for_projector, for_predictor = jax.random.split(rng)
        one = projector.init(for_projector, width(model), self.projector)
        two = projector.init(for_predictor, self.projector[-1], self.predictor)
        return Variables(
            {"projector": one.params, "predictor": two.params},
            {"projector": one.state, "predictor": two.state},
        )

    def begin(self, params: Params, state: State) -> State:
        """With a teacher that equals the student."""
        return teacher.begin(params, state, PARTS)

    def after_update(self, params: Params, state: State, *, progress: Array) -> State:
        """The teacher follows."""
        return teacher.follow(params, state, start=self.momentum, progress=progress)

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head."""
        return label_free.whole("byol", model, steps, self.forward)

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
        """Two views through student and teacher. `inputs` and features are the student's of the
        first view; there are no outputs."""
        for_views, for_student, for_teacher = jax.random.split(rng, 3)
        views, weight = self.views.draw(batch, for_views, mode), batch.weight
        seen = embed(model, variables, views, weight, rng=for_student, mode=mode)
        target, state = teacher.target(model, seen.state, views, weight, rng=for_teacher, mode=mode)
        own = state["strategy"]
        predicted, norms = projector.apply(
            variables.params["strategy"]["predictor"], own["predictor"], seen.z, weight, mode=mode
        )
        state = {**state, "strategy": {**own, "predictor": norms}}
        return Forward(distance(predicted, target), {"image": views[0]}, seen.features, None, state)


def distance(predicted: Array, target: Array) -> Array:
    """(B,) from the student's predictions and the teacher's projections of two views, (2,B,D)."""
    cosine = (unit(predicted) * unit(target)[::-1]).sum(-1)
    return (2 - 2 * cosine).sum(0)
