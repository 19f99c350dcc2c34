"""The stages of a backbone as groups of leaves, each with a rate of its own.

What lies deeper is more particular to the source's task, so it may learn faster, or earlier: the
layer-wise decayed rates of fine-tuning and the phases of gradual unfreezing go by the same levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias, final

import jax

from tlx.backbones.wrapping import abstract_input
from tlx.errors import ConfigError
from tlx.protocols import Backbone, Staged
from tlx.trees import flat
from tlx.types import LeafInfo, LeafKind, NormPolicy
from tlx_strategies import supervised

Levels: TypeAlias = tuple[tuple[str, ...], ...]
"""Names of stages, shallow to deep; those of one level move together."""


def leaves(backbone: Backbone) -> dict[str, LeafInfo]:
    """What its parameters are, by path with `backbone/` in front; nothing is computed."""
    params = jax.eval_shape(backbone.init, *abstract_input(backbone)).params
    return {f"backbone/{path}": backbone.leaf(path) for path in flat(params)}


def levels(backbone: Backbone, leaves: Mapping[str, LeafInfo], wanted_by: str) -> Levels:
    """The stages that hold parameters, one to a level.

    A stage of nothing but a norm, such as the last one of a Vision Transformer, goes with the one
    before, as in timm. `wanted_by` is whom the ConfigError names where the backbone has no stages.
    """
    if not isinstance(backbone, Staged):
        raise ConfigError(
            f"{wanted_by} goes by the order of the backbone's stages, and this backbone does not "
            f"run in stages. Use one that does, or a single backbone_lr for all of it."
        )
    kinds: dict[str, set[LeafKind]] = {}
    for info in leaves.values():
        kinds.setdefault(info.stage, set()).add(info.kind)
    found: list[tuple[str, ...]] = []
    for stage in filter(kinds.__contains__, backbone.stages):
        if found and kinds[stage] == {"norm"}:
            found[-1] += (stage,)
        else:
            found.append((stage,))
    return tuple(found)


def decayed(levels: Levels, decay: float, top: float = 1.0) -> dict[str, float]:
    """Group -> multiplier of the learning rate: `top * decay**(L - l)` for the level l = 0, 1, ...
    of the backbone, where the head is level L."""
    return {
        group(stage): top * decay ** (len(levels) - depth)
        for depth, level in enumerate(levels)
        for stage in level
    }


def moving(
    leaves: Mapping[str, LeafInfo], grouping: Callable[[str], str], norm: NormPolicy
) -> set[str]:
    """The groups that hold a leaf of the backbone which moves, so that a rate means something."""
    affine = norm != "frozen_affine"
    groups = {grouping(path) for path, info in leaves.items() if affine or info.kind != "norm"}
    return groups - {"frozen"}


def group(stage: str) -> str:
    """The name of a stage's group."""
    return f"backbone/{stage}"


@final
@dataclass(frozen=True)
class Grouping:
    """The group of a leaf: 'frozen' if its stage or path is among `kept` (names or globs), else
    its stage's if `by_stage`, else its part."""

    backbone: Backbone
    kept: Sequence[str] = ()
    by_stage: bool = False

    def __call__(self, path: str) -> str:
        """Leaf path -> group."""
        stage = self.stage(path)
        names = [name for name in (path, stage) if name is not None]
        if any(fnmatchcase(name, pattern) for name in names for pattern in self.kept):
            return "frozen"
        return supervised.part(path) if stage is None or not self.by_stage else group(stage)

    def stage(self, path: str) -> str | None:
        """The stage of a leaf of the backbone; None elsewhere."""
        if supervised.part(path) != "backbone":
            return None
        return self.backbone.leaf(path.removeprefix("backbone/")).stage
