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
from tlx.extension import OWN
from tlx.model import Model
from tlx.types import Batch, Features, FrozenFeatures, Variables


def shapes(model: Model, variables: Variables, batch: Batch) -> Features:
    """The features of a batch, all as `jax.ShapeDtypeStruct`."""
    return _program(_plain(model)).eval_shape(*_seen(model, variables, batch))


def behind(model: Model, variables: Variables, batch: Batch) -> Mapping[str, frozenset[str]]:
    """Of each feature the paths of the parameters that reach it: `backbone/stem/conv/kernel`, and
    those of a strategy that extends the model."""
    body, batch = _seen(model, variables, batch)
    reached, _ = flows(_program(_plain(model)), body, batch)
    paths = dict(enumerate(trees.flat(body.params)))
    return {name: frozenset(paths[n] for n in some if n in paths) for name, some in reached.items()}


def fed(batch: Batch, features: Features | None) -> Batch:
    """A batch, and that of a second stream in it, whose features are known; for a model that is
    frozen as a whole."""
    if features is None:
        return batch
    domain = None if batch.domain is None else fed(batch.domain, features)
    return batch._replace(frozen=FrozenFeatures(None, features), domain=domain)


def alike(model: Model, other: Model) -> bool:
    """Whether the features of both have the same shapes."""
    return _plain(model) == _plain(other)


def _plain(model: Model) -> Model:
    """Without what makes no difference to shapes."""
    return replace(
        model, head=None, frozen=0, norm="train", precision="float32", remat=False, whose=""
    )


def _seen(model: Model, variables: Variables, batch: Batch) -> tuple[Variables, Batch]:
    """What the features depend on: of an extended model on the leaves of its strategy, too."""
    parts = ("backbone",) if model.extension is None else ("backbone", OWN)
    body = Variables(*({name: tree[name] for name in parts if name in tree} for tree in variables))
    return body, batch._replace(targets={}, domain=None, frozen=None, mixed=None)


@lru_cache(maxsize=4)
def _program(model: Model) -> Any:
    """Traced once for all runs of a study."""

    @jax.jit
    def features(variables: Variables, batch: Batch) -> Features:
        return model.features(variables, batch, rng=jax.random.key(0), mode="eval")[0]

    return features
