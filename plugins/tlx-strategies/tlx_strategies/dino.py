"""DINO: a student that sees a part of a picture answers as a teacher that sees most of it.

Both say to which of K prototypes a view belongs. The loss is the mean over pairs of different views
(the teacher's a large one, the student's any) of -sum p_t log p_s, with p_t = softmax((t - c) /
0.04) and p_s = softmax(s / 0.1); the centre c is a moving average of the teacher's answers (Caron
et al. 2021, arXiv:2104.14294, section 3.1). Centring spreads the answers evenly, sharpening makes
each of them definite, and together they prevent a collapse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tlx_image.model_images import image_input, with_image_input

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Constants, Forward, Mode, Params, State, Variables
from tlx_strategies import label_free, projector, teacher
from tlx_strategies.batch_moments import moments
from tlx_strategies.embedding import embed, unit, width
from tlx_strategies.views import Steps, Views, pipeline, recipe, two_views

PARTS = ("projector", "prototypes")
"""What of the strategy the teacher has, too."""
COLOURS = (0.4, 0.4, 0.2, 0.1)


def dino(
    prototypes: int = 1024,
    local: int = 6,
    local_size: int | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    warmup_temperature: float = 0.04,
    warmup: float = 0.0,
    momentum: float = 0.996,
    centre_momentum: float = 0.9,
    projector: tuple[int, ...] = (2048, 2048, 256),
    views: Steps | None = None,
    second_view: Steps | None = None,
    local_views: Steps | None = None,
) -> DINO:
    """Self-distillation with several crops of every picture.

    Temperatures, momenta, the projector and the views are the paper's (appendices A and C; small
    pictures are neither blurred nor solarised), whose projector has GELU. There were 65536
    prototypes and 8 local crops of 96 pixels beside 224; small data sets want fewer. A ResNet-50
    was trained on ImageNet with batches of 4096, LARS, learning rate 0.3 per 256 pictures and
    weight decay 1e-6, ViTs with AdamW, 5e-4 per 256 and 0.04 to 0.4. With small batches the teacher
    should be slower, such as 0.9995 for 256.

    Args:
        prototypes: K, how many classes the network makes up.
        local: how many small crops of every picture the student sees, beside two large ones.
        local_size: side of a small crop in pixels of the network's input; 3/7 of it if not given. A
            network that takes one size only sees them enlarged.
        student_temperature: of the student's softmax.
        teacher_temperature: of the teacher's softmax, below the student's.
        warmup_temperature: the teacher's at the start, from where it goes to `teacher_temperature`.
        warmup: the share of the run that this takes.
        momentum: the share of itself that the teacher keeps in the first step; it rises to 1.
        centre_momentum: the share of itself that the centre keeps.
        projector: widths of its layers.
        views: augmentations of both large crops in place of the paper's, by name or as tables.
        second_view: those of the second large crop, where they differ.
        local_views: those of the small crops.
    """
    if local < 0:
        raise ConfigError(f"local is a number of small crops, 0 or more, not {local}.")
    small, large = (0.05, 0.4), (0.4, 1.0)
    both = two_views(
        views,
        second_view,
        (recipe(large, COLOURS), recipe(large, COLOURS)),
        (recipe(large, COLOURS, blur=1.0), recipe(large, COLOURS, blur=0.1, solarize=0.2)),
    )
    crops = [
        (pipeline(steps if local_views is None else local_views, "strategy.local_views"),)
        for steps in (recipe(small, COLOURS), recipe(small, COLOURS, blur=0.5))
    ]
    return DINO(
        views=both,
        local_views=Views(crops[0] * local, crops[1] * local),
        prototypes=prototypes,
        local_size=local_size,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        warmup_temperature=warmup_temperature,
        warmup=warmup,
        momentum=momentum,
        centre_momentum=centre_momentum,
        projector=tuple(projector),
    )


@final
@dataclass(frozen=True, kw_only=True)
class DINO:
    """Train backbone, projector and prototypes towards a teacher that follows them."""

    whole_batch: ClassVar[str] = "its centre moves with every pass"
    smallest_batch: ClassVar[int] = 2
    views: Views
    local_views: Views
    prototypes: int = 1024
    local_size: int | None = None
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    warmup_temperature: float = 0.04
    warmup: float = 0.0
    momentum: float = 0.996
    centre_momentum: float = 0.9
    projector: tuple[int, ...] = (2048, 2048, 256)

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        for name in ("student_temperature", "teacher_temperature", "warmup_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}.")
        for name in ("warmup", "centre_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share, 0 to 1, not {getattr(self, name)}.")
        if self.prototypes < 2 or (self.local_size is not None and self.local_size < 1):
            raise ConfigError(
                f"prototypes ({self.prototypes}) must be at least 2, and local_size "
                f"({self.local_size}) at least 1."
            )
        teacher.check_momentum(self.momentum)
        projector.check_widths("projector", self.projector)

    @property
    def keeps(self) -> Literal["best", "last"]:
        """The last step: the target moves, so losses of two steps do not compare."""
        return "last"

    def trivial(self, batch_size: int) -> float:
        """log K: every prototype is as likely, whatever the picture."""
        return float(np.log(self.prototypes))

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Projector, prototypes and the centre, at 0; the teacher comes with `begin`."""
        for_projector, for_prototypes = jax.random.split(rng)
        made = projector.init(for_projector, width(model), self.projector)
        shape = (self.projector[-1], self.prototypes)
        kernel = jax.random.normal(for_prototypes, shape) / np.sqrt(shape[0])
        return Variables(
            {"projector": made.params, "prototypes": {"kernel": kernel}},
            {"projector": made.state, "centre": jnp.zeros(self.prototypes)},
        )

    def begin(self, params: Params, state: State) -> State:
        """With a teacher that equals the student."""
        return teacher.begin(params, state, PARTS)

    def after_update(self, params: Params, state: State, *, progress: Array) -> State:
        """The teacher follows."""
        return teacher.follow(params, state, start=self.momentum, progress=progress)

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError for a model with a head."""
        return label_free.whole("dino", model, steps, self.forward)

    def draw(
        self, model: Model, variables: Variables, batch: Batch, *, rng: Array
    ) -> Mapping[str, Array]:
        """The pictures, both large crops of each and, where there are any, the first small one."""
        drawn = self.views.shown(batch, rng)
        if self.local_views.small:
            crops = self.local_views.draw(batch, rng, "train", number=2)
            drawn["small crop"] = jnp.clip(crops[0], 0, 1)
        return drawn

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
        """All crops through the student, the large ones through the teacher. `inputs` and features
        are the student's of the first large crop; there are no outputs."""
        for_views, for_student, for_crops, for_teacher = jax.random.split(rng, 4)
        views, weight = self.views.draw(batch, for_views, mode), batch.weight
        seen = embed(model, variables, views, weight, rng=for_student, mode=mode)
        z, state = seen.z, seen.state
        if self.local_views.small:
            crops = self.local_views.draw(batch, for_views, mode, number=len(views))
            crops, taker = self.shrunk(model, crops)
            once = variables._replace(state=state)  # which the large crops have moved
            parts = embed(taker, once, crops, weight, rng=for_crops, mode=mode)
            z, state = jnp.concatenate([z, parts.z]), parts.state
        target, state = teacher.target(model, state, views, weight, rng=for_teacher, mode=mode)
        own = state["strategy"]
        answers = assigned(own["teacher"]["params"]["strategy"]["prototypes"], target)
        loss = cross_entropy(
            assigned(variables.params["strategy"]["prototypes"], z) / self.student_temperature,
            (answers - own["centre"]) / self.sharpness(progress),
        )
        if mode != "eval":
            keep = self.centre_momentum
            centre = keep * own["centre"] + (1 - keep) * moments(answers, weight).mean
            state = {**state, "strategy": {**own, "centre": centre}}
        return Forward(loss, {"image": views[0]}, seen.features, None, state)

    def sharpness(self, progress: Array) -> Array:
        """The teacher's temperature at a point of the run, 0 to 1."""
        share = jnp.minimum(progress / self.warmup, 1.0) if self.warmup else 1.0
        first, last = self.warmup_temperature, self.teacher_temperature
        return jnp.asarray(first + share * (last - first))

    def shrunk(self, model: Model, crops: Array) -> tuple[Array, Model]:
        """Small crops (V,B,H,W,3) at their size, and the model that takes them at it."""
        spec = image_input(model)
        if spec.fixed:
            return crops, model
        sides = spec.size or crops.shape[2:4]
        size = tuple(self.local_size or max(round(side * 3 / 7), 1) for side in sides)
        shape = (*crops.shape[:2], *size, crops.shape[-1])
        crops = jax.image.resize(crops, shape, "linear", antialias=True)
        return crops, with_image_input(model, replace(spec, size=None))


def assigned(prototypes: Params, z: Array) -> Array:
    """(...,K) cosines of embeddings (...,D) and prototypes: a layer with normalised weights."""
    return unit(z) @ unit(prototypes["kernel"], axis=0)


def cross_entropy(student: Array, teacher: Array) -> Array:
    """(B,) from the logits of the student (V,B,K) and of the teacher (T,B,K), of which view t is
    the student's view t: the mean over all pairs of different views."""
    known = jax.lax.stop_gradient(jax.nn.softmax(teacher))
    said = jax.nn.log_softmax(student)
    count = len(known)
    every = -(known.sum(0) * said.sum(0)).sum(-1)
    same = -(known * said[:count]).sum((0, -1))
    return (every - same) / (count * (len(said) - 1))
