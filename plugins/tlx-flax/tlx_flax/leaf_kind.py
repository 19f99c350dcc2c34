"""What a parameter is, read off its name and its neighbours.

Layer-wise rates, bias-only tuning and low-rank factors go by the kind of a parameter. Flax names
a layer's parameters alike everywhere, so the last part of the path and the parameters beside it
are enough.
"""

from __future__ import annotations

from collections.abc import Collection

from tlx.types import LeafKind


def leaf_kind(path: str, every: Collection[str]) -> LeafKind:
    """The kind of the parameter at `path`, where `every` holds the paths of all parameters.

    Scale and bias of a normalisation layer are both 'norm'."""
    layer, _, name = path.rpartition("/")
    if "embedding" in name:
        return "embedding"
    if name == "scale" or (name == "bias" and f"{layer}/scale".lstrip("/") in every):
        return "norm"
    return "bias" if name.endswith("bias") else "kernel"
