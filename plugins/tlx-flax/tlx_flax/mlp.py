"""A multilayer perceptron for rows: dense layers, each with a ReLU and dropout behind it.

The baseline of Gorishniy et al. 2021, 'Revisiting Deep Learning Models for Tabular Data'
(arXiv:2106.11959, section 3.2). How many numbers a row has is known once its input is fitted to
data, so the first layer is as wide as what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from flax import nnx
from jax import Array
from tlx_table import RowInput

from tlx.errors import ConfigError
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, PyTree, State, Variables
from tlx_flax.nnx_backbone import NnxBackbone


class Layer(nnx.Module):
    """A dense layer, a ReLU, dropout."""

    def __init__(self, before: int, width: int, dropout: float, rngs: nnx.Rngs):
        self.linear = nnx.Linear(before, width, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(B,before) to (B,width)."""
        return self.dropout(nnx.relu(self.linear(x)))


class Perceptron(nnx.Module):
    """The layers without a classifier, each a stage."""

    def __init__(self, given: int, width: int, depth: int, dropout: float, rngs: nnx.Rngs):
        self.last = f"layer{depth}"
        for number in range(depth):
            layer = Layer(width if number else given, width, dropout, rngs)
            setattr(self, f"layer{number + 1}", layer)

    def stage(self, name: str, x: Array) -> tuple[Array, Mapping[str, Array]]:
        """One layer by name: what the next one reads, and the features that arise."""
        x = getattr(self, name)(x)
        return x, {name: x} | ({"pooled": x} if name == self.last else {})


@final
@dataclass(frozen=True)
class Mlp:
    """A Backbone, Staged, of `depth` layers of `width` numbers, named `layer1` and so on; `pooled`
    is the last. `dropout` is the share that is left out behind each."""

    width: int = 128
    depth: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, number in (("width", self.width), ("depth", self.depth)):
            if number < 1:
                raise ConfigError(f"{name} = {number} of a perceptron must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"dropout = {self.dropout} of a perceptron must be from 0 to below 1."
            )

    @property
    def inputs(self) -> RowInput:
        """Rows, whose columns the data say."""
        return RowInput()

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Every layer, and the last one as `pooled`."""
        return tuple(FeatureSpec(n, "vector", self.width) for n in (*self.stages, "pooled"))

    @property
    def modes(self) -> frozenset[Mode]:
        """Dropout on or off; there are no statistics."""
        return _network(self, 1).modes

    @property
    def stages(self) -> tuple[str, ...]:
        """The layers."""
        return tuple(f"layer{number + 1}" for number in range(self.depth))

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of a parameter."""
        return _network(self, 1).leaf(path)

    def init(self, rng: Array, x: Array) -> Variables:
        """Fresh parameters for rows (B,D)."""
        return _network(self, x.shape[-1]).init(rng, x)

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of rows (B,D)."""
        return _network(self, x.shape[-1]).apply(params, state, x, rng=rng, mode=mode)

    def apply_stages(
        self,
        params: Params,
        state: State,
        carry: PyTree,
        *,
        start: int,
        stop: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[PyTree, Features, State]:
        """Layers `start` to `stop`."""
        network = _network(self, params["layer1"]["linear"]["kernel"].shape[0])
        return network.apply_stages(
            params, state, carry, start=start, stop=stop, rng=rng, mode=mode
        )


@lru_cache(maxsize=8)
def _network(mlp: Mlp, given: int) -> NnxBackbone:
    """The network for rows of so many numbers."""
    options = {"given": given, "width": mlp.width, "depth": mlp.depth, "dropout": mlp.dropout}
    pairs = tuple(sorted(options.items()))
    return NnxBackbone(Perceptron, mlp.features, mlp.inputs, pairs, mlp.stages)
