"""What a backbone says of a batch, as shapes: traced once, for everybody who asks, and every run.

A pass that is given the features of its pictures, as from a cache, is traced in next to no time:
what comes before them is a network's longest part. Which leaves reach a feature is known of the
backbone alone, and put together with what such a pass tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax

from tlx import trees
from tlx.devices.flows import flows
from tlx.model import Model, Prefix
from tlx.types import Batch, Features, Variables


def shapes(model: Model, variables: Variables, image: Any) -> Features:
    """The features of pictures (B,H,W,C), all as `jax.ShapeDtypeStruct`."""
    return _program(_plain(model)).eval_shape(*_body(variables), image)


def behind(model: Model, variables: Variables, image: Any) -> Mapping[str, frozenset[str]]:
    """Of each feature the paths of the parameters that reach it: `backbone/stem/conv/kernel`."""
    params, state = _body(variables)
    reached, _ = flows(_program(_plain(model)), params, state, image)
    paths = dict(enumerate(trees.flat(params)))
    return {name: frozenset(paths[n] for n in some if n in paths) for name, some in reached.items()}


def fed(batch: Batch, features: Features | None) -> Batch:
    """A batch, and that of a second stream in it, whose features are known; for a model that is
    frozen as a whole."""
    if features is None:
        return batch
    known = {**batch, "prefix": Prefix(None, features)}
    return {**known, "domain": fed(batch["domain"], features)} if "domain" in batch else known


def alike(model: Model, other: Model) -> bool:
    """Whether the features of both have the same shapes."""
    return _plain(model) == _plain(other)


def _plain(model: Model) -> Model:
    """Without what makes no difference to shapes."""
    return replace(
        model, head=None, frozen=0, norm="train", precision="float32", remat=False, whose=""
    )


def _body(variables: Variables) -> tuple[Any, Any]:
    params, state = variables
    return {"backbone": params["backbone"]}, {"backbone": state["backbone"]}


@lru_cache(maxsize=4)
def _program(model: Model) -> Any:
    """Traced once for all runs of a study."""

    @jax.jit
    def features(params: Any, state: Any, image: Any) -> Any:
        return model.features(params, state, image, rng=jax.random.key(0), mode="eval")[0]

    return features
