"""The numbers that a model begins with: those of a file, and fresh ones for the rest.

Shapes are known without computing anything, so that only the leaves which no file gave are drawn.
Drawing all of them and throwing most away is the longest part of starting a run on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import jax
from jax import Array

from tlx.backbones.wrapping import abstract_input
from tlx.contracts.input import Inputs
from tlx.devices.compiled import compiled_for_once
from tlx.model import Model
from tlx.protocols import Backbone
from tlx.trees import flat
from tlx.types import Batch, Variables


@final
@dataclass(frozen=True, eq=False)
class Initial:
    """What `model.init(rng, batch)` gives, by leaf; `batch` holds one or more pictures."""

    model: Model
    rng: Array
    batch: Batch

    @property
    def shapes(self) -> Variables:
        """A `jax.ShapeDtypeStruct` for every leaf."""
        return _init(self.model).eval_shape(self.rng, self.batch)

    def filled(self, variables: Variables) -> Variables:
        """`variables` with numbers in place of every `jax.ShapeDtypeStruct`."""
        leaves, tree = jax.tree.flatten(variables)
        missing = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
        if not missing:
            return variables
        made = _drawn(self.model, tuple(missing))(self.rng, self.batch)
        for i, leaf in zip(missing, made, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(tree, leaves)


def backbone_leaves(backbone: Backbone, inputs: Inputs | None = None) -> dict[str, Any]:
    """Leaf path -> `jax.ShapeDtypeStruct` of every leaf of a backbone alone, given its own inputs
    or others."""
    like = jax.eval_shape(backbone.init, *abstract_input(backbone, inputs))
    return flat(Variables({"backbone": like.params}, {"backbone": like.state}))


@lru_cache(maxsize=4)
def _init(model: Model) -> Any:
    return jax.jit(model.init)  # so that it is traced once, for every run of the same network


@lru_cache(maxsize=4)
def _drawn(model: Model, missing: tuple[int, ...]) -> Any:
    """Compiled once for every run of the same network that lacks the same leaves."""

    def drawn(rng: Array, batch: Batch) -> list[Array]:
        made = jax.tree.leaves(_init(model)(rng, batch))
        return [made[i] for i in missing]

    return compiled_for_once(drawn)


def with_part(variables: Variables, key: str, own: Variables) -> Variables:
    """The numbers with those of another part beside them, if it has any."""
    params = (
        {**variables.params, key: own.params} if jax.tree.leaves(own.params) else variables.params
    )
    state = {**variables.state, key: own.state} if jax.tree.leaves(own.state) else variables.state
    return Variables(params, state)
