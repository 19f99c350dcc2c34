"""The kernels of a backbone, and numbers of a strategy's own that are added to them.

What LoRA and adapters learn lies beside the kernel that it changes: under the kernel's leaf path,
in the strategy's parameters. A kernel to which its change has been added runs as it did before, so
stride, padding, dilation and groups need no second thought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import jax
from jax import Array

from tlx.backbones.wrapping import nested
from tlx.errors import ConfigError, listed
from tlx.model import Model
from tlx.trees import flat, matching, unflat
from tlx.types import Batch, Params


class Kernel(NamedTuple):
    """A kernel of any rank; `out` are the axes that count its outputs and `layers` those that
    count kernels of the same form, all from the front. The others count inputs."""

    shape: tuple[int, ...]
    dtype: jax.typing.DTypeLike
    out: tuple[int, ...]
    layers: tuple[int, ...] = ()

    @property
    def inputs(self) -> int:
        """How many numbers of the input an output is made of."""
        return prod(size for n, size in enumerate(self.shape) if n not in self.out + self.layers)

    @property
    def outputs(self) -> int:
        """How many outputs it has."""
        return prod(self.shape[axis] for axis in self.out)


def kernels(model: Model, batch: Batch) -> dict[str, Kernel]:
    """Leaf path -> kernel, of every leaf of the backbone that is one and has two axes or more
    beside those of layers. Nothing is computed.

    Raises ConfigError where nobody knows which axes of a kernel count its outputs."""
    params = jax.eval_shape(model.init, jax.random.key(0), batch).params["backbone"]
    found, unknown = {}, []
    for path, leaf in flat(params).items():
        info = model.backbone.leaf(path)
        layers = tuple(axis % leaf.ndim for axis in info.layers)
        if info.kind != "kernel" or leaf.ndim - len(layers) < 2:
            continue
        if info.out is None:
            unknown.append(f"{path} {leaf.shape}")
            continue
        out = (info.out,) if isinstance(info.out, int) else info.out
        out = tuple(axis % leaf.ndim for axis in out)
        found[f"backbone/{path}"] = Kernel(leaf.shape, leaf.dtype, out, layers)
    if unknown:
        first = unknown[0].split()[0]
        raise ConfigError(
            f"Which axes count the outputs of {listed(unknown[:3])} cannot be seen from what the "
            f"network does with {'it' if len(unknown) == 1 else 'them'}. Say it where the network "
            f'is wrapped: leaves={{"{first}": {{"out": -1, "layers": 0}}}}, with the axes that '
            f'count outputs and, if there are any, layers; or {{"kind": "embedding"}} for what is '
            f"no kernel."
        )
    return found


def targeted(found: Mapping[str, Kernel], targets: tuple[str, ...]) -> dict[str, Kernel]:
    """Those that any of the globs `targets` matches; all of them without a glob.

    Raises ConfigError for a glob that matches none."""
    if not targets:
        return dict(found)
    if not found:
        raise ConfigError(
            f"targets: {targets[0]!r} matches nothing, because the backbone has no kernel that "
            f"could be changed so."
        )
    paths = dict.fromkeys(found, 0)
    chosen = {path for pattern in targets for path in matching(paths, pattern)}
    return {path: kernel for path, kernel in found.items() if path in chosen}


def beside(own: Mapping[str, Mapping[str, Array]]) -> Params:
    """Kernel path -> name -> numbers, as the strategy's parameters."""
    return nested(
        {
            f"{path.removeprefix('backbone/')}/{name}": leaf
            for path, named in own.items()
            for name, leaf in named.items()
        }
    )


def added(
    params: Params, change: Callable[[tuple[int, ...], Mapping[str, Array]], Array]
) -> Params:
    """`params` whose kernels have `change(shape, numbers beside it)` added, in the kernel's type;
    the strategy's parameters stay."""
    body = flat(params["backbone"])
    own: dict[str, dict[str, Array]] = {}
    for path, leaf in flat(params["strategy"]).items():
        kernel, _, name = path.rpartition("/")
        own.setdefault(kernel, {})[name] = leaf
    for path, numbers in own.items():
        kernel = body[path]
        body[path] = kernel + change(kernel.shape, numbers).astype(kernel.dtype)
    return {**params, "backbone": unflat(params["backbone"], body)}
