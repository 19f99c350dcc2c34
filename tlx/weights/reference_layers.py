"""Which layer here a layer of the original is, by the names of its tensors.

Whoever records the activations of somebody else's network calls its layers by that network's
names. The dialect that translated its tensors translates them, too: a layer is where the leaves
are that its tensors fill, and a block is what its layers have in common.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tlx.contracts.dialect import Dialect
from tlx.weights.places import cuts

HEAD = "head"
"""What the outputs of a head are called beside the layers of a backbone."""


def layer_of(path: str) -> str:
    """`stage1/block0/conv1` of `params/backbone/stage1/block0/conv1/kernel`, 'head' of a head."""
    part, *layer = path.split("/")[1:-1]
    return "/".join(layer) if part == "backbone" else part


class Place(NamedTuple):
    """A layer here, and whether it is a block: what the original calls by its name may end before
    or behind it, a sum or a pooling away."""

    layer: str
    block: bool


def homes(tensors: Iterable[str], dialect: Dialect | None) -> dict[str, set[str]]:
    """Name of a tensor, with and without what stands before all -> the layers here that it fills;
    nothing for one that fills none."""
    filled: dict[str, set[str]] = {}
    if dialect is None:
        return filled
    for tensor in tensors:
        for at in cuts(tensor):
            if found := {layer_of(path) for path, _ in dialect.leaves(tensor[at:])}:
                filled |= {tensor[before:]: found for before in cuts(tensor) if before <= at}
                break
    return filled


def translated(name: str, tensors: Mapping[str, set[str]], layers: Collection[str]) -> Place | None:
    """Which of `layers` a recorded `name` means; None where none is, or several are.

    `name` may be one of `layers` itself, or a layer of the network whose tensors have these
    `homes`. A block means the block here that is made of the same layers."""
    if name in layers:
        return Place(name, False)
    own = {
        bare[len(name) + 1 :]: found
        for bare, found in tensors.items()
        if bare.startswith((f"{name}.", f"{name}/"))
    }
    if any("." in kind or "/" in kind for kind in own):
        below = set().union(*own.values())
        layer = _common(below)
        every = set().union(*tensors.values())
        whole = {one for one in every if one == layer or one.startswith(f"{layer}/")}
        return Place(layer, True) if layer in layers and whole == below else None
    # A convolution into which a batch norm was folded ends where its bias goes; one that is
    # several layers here, such as queries, keys and values in one, is none of them.
    ends = own.get("bias") or own.get("beta") or set().union(*own.values())
    layer = _common(ends) if len(ends) == 1 else ""
    return Place(layer, False) if layer in layers else None


def _common(layers: Collection[str]) -> str:
    """The path that all have in common."""
    parts = [layer.split("/") for layer in layers]
    shared: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared)
