"""Labels that lie on the plane of their picture: masks, depth maps, boxes, points.

Whatever moves a picture would have to move its label, and nothing in a run does. So what changes
pictures either says that it leaves every pixel in its place, or is refused beside such labels:
augmentations, pictures that are brought to another size, and strategies that feed pictures of
their own making.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tlx.errors import ConfigError, listed
from tlx.planning.plan import Planned
from tlx.protocols import KeepsPlaces
from tlx.types import Batch, Constants, Forward, Variables

if TYPE_CHECKING:
    from tlx.assemble import Experiment

AXES = 2
"""Of one example's label; with fewer it says something of the picture as a whole."""


def refuse(experiment: Experiment, sample: Batch) -> None:
    """Raise ConfigError where a label of the plane would lie elsewhere than what it is about.
    `sample` is a batch as the stream gives it."""
    label = sample.targets.get("label")
    read = experiment.model.head is not None or any("batch" in t.words for t in experiment.terms)
    if label is None or label.ndim <= AXES or not read:
        return
    what = (
        f"The label of a picture of {experiment.info.name!r} has the shape {label.shape[1:]} and "
        f"lies on its plane, as a mask or a box does"
    )
    changes = zip(experiment.config.augmentation, experiment.augmentations, strict=True)
    if moving := [repr(part.name) for part, change in changes if not keeps_places(change)]:
        one = len(moving) == 1
        raise ConfigError(
            f"{what}. The augmentation{'' if one else 's'} {listed(moving)} may move what is in "
            f"the picture, and {'does' if one else 'do'} not move the label. Leave "
            f"{'it' if one else 'them'} out, and change labels together with pictures in the data "
            f"source. An augmentation that leaves every pixel in its place says so by "
            f"`keeps_places = True`; a label that lies on no plane is to be given as one axis."
        )
    named = [field for port in experiment.model.ports for field in port.fields]
    if any(getattr(experiment.info.fields[name], "shape", ()) is None for name in named):
        raise ConfigError(
            f"{what}. Pictures of different shapes are brought to one and cropped, and labels are "
            f"not. Give pictures and labels of one size, and say it in the `shape` of their field."
        )
    for planned in experiment.phases:
        if planned.phase.solve is None and not _feeds_the_batch(experiment, planned, sample):
            raise ConfigError(
                f"{what}. In its phase {planned.phase.name!r} the strategy "
                f"{experiment.config.strategy.name!r} feeds other pictures than those of the "
                f"batch, such as views of them, and does not move the label. Take a strategy that "
                f"feeds pictures as they are, such as 'finetune'."
            )


def keeps_places(change: Any) -> bool:
    """Whether an augmentation says that every pixel stays where it is; one that says nothing may
    move them."""
    return isinstance(change, KeepsPlaces) and bool(change.keeps_places)


def _feeds_the_batch(experiment: Experiment, planned: Planned, sample: Batch) -> bool:
    """Whether a phase's pass is of the very pictures that it is given, found by tracing it."""
    found: list[bool] = []

    def passed(variables: Variables, batch: Batch, constants: Constants) -> Forward:
        forward = planned.phase.forward(
            planned.model, variables, batch, constants,
            rng=jax.random.key(0), mode="train", progress=jnp.float32(0),
        )  # fmt: skip
        found.append(forward.inputs is batch.inputs)
        return forward

    used = experiment.used(experiment.variables)
    variables = Variables(used.params, experiment.variables.state)
    jax.eval_shape(passed, variables, sample, experiment.constants)
    return found[-1]
