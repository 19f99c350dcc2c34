"""A tiny network as plain functions, to test everything that needs a backbone.

It has all that a real one can have and still compiles at once: convolutions, batch statistics in
the state, dropout, stages, maps and a vector, and all modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx import registry
from tlx.protocols import Input
from tlx.types import Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables

STAGES = ("stage1", "stage2")


@lru_cache(maxsize=8)
def _image_input(size: tuple[int, int] | None, channels: int) -> Input:
    """The input of the plugin `image`, which the kit for images needs."""
    half = (0.5,) * channels
    options = {"size": size, "channels": channels, "mean": half, "std": half}
    return registry.build("inputs", "image", options)


@final
@dataclass(frozen=True)
class ToyBackbone:
    """Two stages of 3x3 convolution, batch norm, relu and dropout; the second halves the map.

    Features: `stage1` (B,H,W,width), `stage2` (B,H/2,W/2,2*width), `pooled` (B,2*width). `size`
    is the one picture size it wants, None for any; `momentum` is how much the running statistics
    keep at each training pass."""

    width: int = 4
    size: tuple[int, int] | None = (8, 8)
    channels: int = 3
    dropout: float = 0.1
    momentum: float = 0.9

    @property
    def inputs(self) -> Input:
        """Pictures in 0..1, shifted to -1..1."""
        return _image_input(self.size, self.channels)

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Both stages' maps and the mean over the deeper one's positions."""
        return (
            FeatureSpec("stage1", "map", self.width, 1),
            FeatureSpec("stage2", "map", 2 * self.width, 2),
            FeatureSpec("pooled", "vector", 2 * self.width),
        )

    @property
    def modes(self) -> frozenset[Mode]:
        """All of them."""
        return frozenset({"train", "tune", "eval", "stochastic"})

    @property
    def stages(self) -> tuple[str, ...]:
        """`stage1`, `stage2`."""
        return STAGES

    def leaf(self, path: str) -> LeafInfo:
        """Stage and kind of a leaf such as `stage1/conv/kernel`."""
        stage, layer, name = path.split("/")
        if layer == "norm":
            return LeafInfo(stage, "norm")
        return LeafInfo(stage, "kernel" if name == "kernel" else "bias")

    def init(self, rng: Array, x: Array) -> Variables:
        """He-normal kernels; running mean 0 and variance 1."""
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        wide = (x.shape[-1], self.width, 2 * self.width)
        he = jax.nn.initializers.he_normal()
        for i, key in enumerate(jax.random.split(rng, len(STAGES))):
            into, out = wide[i], wide[i + 1]
            params[STAGES[i]] = {
                "conv": {"kernel": he(key, (3, 3, into, out), x.dtype), "bias": jnp.zeros(out)},
                "norm": {"scale": jnp.ones(out), "bias": jnp.zeros(out)},
            }
            state[STAGES[i]] = {"mean": jnp.zeros(out), "var": jnp.ones(out)}
        return Variables(params, state)

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features, and the running statistics (moved only in mode 'train')."""
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=len(STAGES), rng=rng, mode=mode
        )
        return features, state

    def apply_stages(
        self,
        params: Params,
        state: State,
        carry: Array,
        *,
        start: int,
        stop: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[Array, Features, State]:
        """Stages `start` to `stop`, like a slice."""
        features: dict[str, Array] = {}
        state = dict(state)
        for i in range(start, stop):
            name = STAGES[i]
            key = jax.random.fold_in(rng, i)  # by stage, so that running in pieces is the same
            carry, state[name] = self._stage(params[name], state[name], carry, i + 1, key, mode)
            features[name] = carry
        if stop == len(STAGES):
            features["pooled"] = carry.mean((1, 2))
        return carry, features, state

    def _stage(
        self, params: Params, state: State, x: Array, stride: int, rng: Array, mode: Mode
    ) -> tuple[Array, State]:
        x = jax.lax.conv_general_dilated(
            x,
            params["conv"]["kernel"],
            window_strides=(stride, stride),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x + params["conv"]["bias"]
        wide = x.astype(jnp.float32)  # statistics are float32 whatever the rest computes in
        mean, var = state["mean"], state["var"]
        if mode in ("train", "stochastic"):
            batch = {"mean": wide.mean((0, 1, 2)), "var": wide.var((0, 1, 2))}
            of_batch = True
            if mode == "stochastic":
                of_batch = jax.random.bernoulli(jax.random.fold_in(rng, 1), 0.5, mean.shape)
            mean, var = (jnp.where(of_batch, batch[key], state[key]) for key in ("mean", "var"))
            keep = self.momentum
            state = {key: keep * state[key] + (1 - keep) * batch[key] for key in batch}
        wide = (wide - mean) * jax.lax.rsqrt(var + 1e-5)
        wide = jax.nn.relu(wide * params["norm"]["scale"] + params["norm"]["bias"])
        x = wide.astype(x.dtype)
        if mode != "eval" and self.dropout > 0:
            kept = jax.random.bernoulli(rng, 1 - self.dropout, x.shape)
            x = jnp.where(kept, x / (1 - self.dropout), 0)
        return x, state
