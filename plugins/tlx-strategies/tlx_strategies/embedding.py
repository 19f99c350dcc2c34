"""From views to embeddings: one pass of all views through the backbone and the projector.

What joint-embedding methods share before their losses. Statistics of batch norm are over all views
of a pass together.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from tlx.model import Model
from tlx.training.health import representation
from tlx.types import Features, Mode, State, Variables, unlabelled
from tlx_strategies import projector


class Embedded(NamedTuple):
    """Of V views of B pictures: embeddings `z` (V,B,D), all features of the first view (B,...), and
    the state after the pass."""

    z: Array
    features: Features
    state: State


def width(model: Model) -> int:
    """Dimensions of what the projector is fed: `tlx.training.health.representation`."""
    specs = model.backbone.features
    some = {spec.name: jax.ShapeDtypeStruct((1, spec.channels), jnp.float32) for spec in specs}
    return jax.eval_shape(lambda features: representation(specs, features), some).shape[-1]


def embed(
    model: Model,
    variables: Variables,
    views: Array,
    weight: Array,
    *,
    rng: Array,
    mode: Mode,
) -> Embedded:
    """Views (V,B,H,W,C) of pictures with a `weight` (B,) through the backbone and what
    `params['strategy']['projector']` is."""
    count, batch = views.shape[:2]
    # Views of one picture lie together, so that a batch on several devices stays where it is.
    image = views.swapaxes(0, 1).reshape(batch * count, *views.shape[2:])
    fed, (params, state) = unlabelled({"image": image}), variables
    features, body = model.features(variables, fed, rng=rng, mode=mode)
    whole = representation(model.backbone.features, features)
    own = state["strategy"]
    z, norms = projector.apply(
        params["strategy"]["projector"],
        own["projector"],
        whole.reshape(batch, count, -1).swapaxes(0, 1),
        weight,
        mode=mode,
    )
    first = {name: leaf[::count] for name, leaf in features.items()}
    return Embedded(z, first, {**state, "backbone": body, "strategy": {**own, "projector": norms}})


def unit(x: Array, axis: int = -1) -> Array:
    """`x` with length 1 along an axis; 0 stays 0."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), 1e-12))
