"""What every parameter of a Flax module is: the stage it lives in and its kind.

Layer-wise rates, bias-only tuning and low-rank factors go by it. Flax names a layer's parameters
alike everywhere, so the last part of a path and the parameters beside it tell the kind; the
first part tells the stage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tlx.errors import ContractError, did_you_mean, listed
from tlx.types import LeafInfo, LeafKind

WHOLE = "all"
"""The one stage of a module that does not run in pieces."""


def leaf_infos(paths: Iterable[str], stages: tuple[str, ...]) -> dict[str, LeafInfo]:
    """Path -> stage and kind. Raises ContractError for a path that begins with no stage."""
    every = frozenset(paths)
    return {path: LeafInfo(_stage(path, stages), leaf_kind(path, every)) for path in every}


def leaf_info(infos: Mapping[str, LeafInfo], path: str) -> LeafInfo:
    """The entry for `path`, or a ContractError with the nearest name."""
    if path not in infos:
        raise ContractError(f"The backbone has no parameter {path!r}.{did_you_mean(path, infos)}")
    return infos[path]


def leaf_kind(path: str, every: Collection[str]) -> LeafKind:
    """The kind of the parameter at `path`, where `every` holds the paths of all parameters.

    Scale and bias of a normalisation layer are both 'norm'."""
    layer, _, name = path.rpartition("/")
    if "embedding" in name:
        return "embedding"
    if name == "scale" or (name == "bias" and f"{layer}/scale".lstrip("/") in every):
        return "norm"
    return "bias" if name.endswith("bias") else "kernel"


def _stage(path: str, stages: tuple[str, ...]) -> str:
    if stages == (WHOLE,):
        return WHOLE
    stage = path.split("/", 1)[0]
    if stage in stages:
        return stage
    raise ContractError(
        f"The parameter {path!r} belongs to no stage: its first part must be one of "
        f"{listed(stages)}."
    )
