"""Targets that lie on the plane of their image: masks, depth maps, boxes, points.

Whatever moves an image has to move its target. A field that is `Spatial` follows where something
says how it moves images (`Geometric`); any other target of such a shape, and any other change that
does not say that it leaves every pixel in its place, is refused: augmentations, images that are
brought to another size, and strategies that feed images of their own making.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tlx.contracts.field import Spatial
from tlx.contracts.outside import Geometric
from tlx.errors import ConfigError, listed
from tlx.planning.plan import Planned
from tlx.protocols import KeepsPlaces, Mixes
from tlx.types import Batch, Constants, Forward, Variables

if TYPE_CHECKING:
    from tlx.assemble import Experiment

AXES = 2
"""Of one example's target; with fewer it says something of the image as a whole."""


def refuse(experiment: Experiment, sample: Batch) -> None:
    """Raise ConfigError where a target of the plane would lie elsewhere than what it is about.
    `sample` is a batch as the stream gives it."""
    if experiment.model.head is None and not any("batch" in t.words for t in experiment.terms):
        return
    fields, info = experiment.info.fields, experiment.info
    spatial = [name for name in info.targets if isinstance(fields[name], Spatial)]
    still = [name for name in info.targets if name not in spatial and _is_dense(sample, name)]
    if not spatial and not still:
        return
    name = (still or spatial)[0]
    what = f"The target {name!r} of {info.name!r} lies on the plane of its image"
    if still:
        shape = jax.tree.leaves(sample.targets[name])[0].shape[1:]
        what = (
            f"The target {name!r} of an example of {info.name!r} has the shape {shape} and lies on "
            f"its plane, as a mask or a box does"
        )
    _refuse_mixing(experiment, what, spatial)
    _refuse_moving(experiment, what, follows=not still)
    named = [field for port in experiment.model.ports for field in port.fields]
    if still and any(getattr(fields[name], "shape", ()) is None for name in named):
        raise ConfigError(
            f"{what}. Pictures of different shapes are brought to one and cropped, and this target "
            f"is not. Give pictures and targets of one size, and say it in the `shape` of their "
            f"field, or let the target's field be one that moves with its image, such as 'mask'."
        )
    for planned in experiment.phases:
        if planned.phase.solve is None and not _feeds_the_batch(experiment, planned, sample):
            raise ConfigError(
                f"{what}. In its phase {planned.phase.name!r} the strategy "
                f"{experiment.config.strategy.name!r} feeds other pictures than those of the "
                f"batch, such as views of them, and does not move the target. Take a strategy that "
                f"feeds pictures as they are, such as 'finetune'."
            )


def _is_dense(sample: Batch, name: str) -> bool:
    return any(leaf.ndim > AXES for leaf in jax.tree.leaves(sample.targets[name]))


def _refuse_mixing(experiment: Experiment, what: str, spatial: list[str]) -> None:
    changes = zip(experiment.config.augmentation, experiment.augmentations, strict=True)
    mixing = [part.name for part, change in changes if isinstance(change, Mixes)]
    if mixing and spatial:
        raise ConfigError(
            f"{what}. The augmentation {mixing[0]!r} makes one picture of two, and there is no "
            f"{experiment.info.fields[spatial[0]].kind} of two pictures at once. Leave it out."
        )


def _refuse_moving(experiment: Experiment, what: str, *, follows: bool) -> None:
    changes = zip(experiment.config.augmentation, experiment.augmentations, strict=True)
    moving = [
        repr(part.name)
        for part, change in changes
        if not keeps_places(change) and not (follows and isinstance(change, Geometric))
    ]
    if not moving:
        return
    it, they = ("it", "does") if len(moving) == 1 else ("them", "do")
    advice = (
        f"move the target. Leave {it} out, and change targets together with pictures in the data "
        f"source, or let the target's field be one that moves with its image, such as 'mask'."
    )
    if follows:
        advice = (
            f"say how, so that the target cannot follow. Leave {it} out, or let {it} say it by "
            f"`draw`, as 'flip', 'crop' and 'resized_crop' do."
        )
    raise ConfigError(
        f"{what}. The augmentation{'s' * (len(moving) > 1)} {listed(moving)} may move what is in "
        f"the picture, and {they} not {advice} An augmentation that leaves every pixel in its "
        f"place says so by `keeps_places = True`; a target that lies on no plane is to be given as "
        f"one axis."
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
