"""Channel attention: how much a task misses each channel of a feature.

A channel counts by how much the loss grows when it is zero everywhere, which takes a pass through
the rest of the network for every channel. They are one program: what lies before the feature runs
once, and as the weights are the same for all channels, `vmap` folds them into the batch of every
convolution.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.contracts.phase import Examples
from tlx.devices.compiled import compiled
from tlx.errors import ConfigError
from tlx.model import Model, pooled
from tlx.numerics.newton_cg import minimise
from tlx.protocols import Head, Staged
from tlx.types import Batch, Features, Params, Variables
from tlx_divergences.named import feature
from tlx_divergences.squares import half_squares

TEMPERATURE = 5.0
"""By which the reference implementation of DELTA divides before its softmax."""
PASS = 256
"""Pictures, each without one channel, that go through an accelerator together."""


class Site(NamedTuple):
    """Where the feature `name` of `channels` channels can be set to zero: it is what stage `start`
    reads, and `copies` are those features that the head reads and that are the same, or the mean
    over its positions."""

    name: str
    channels: int
    start: int
    copies: tuple[str, ...]


def attention(losses: Array) -> Array:
    """(C,) weights that add up to 1: softmax of the standard score over 5 of the losses (C,)
    without each channel. A constant added to all of them, such as the loss with all channels,
    changes nothing. Equal losses give equal weights.

    Source: DELTA, Li et al. 2019 (arXiv:1901.09229, section 3.3) and its authors' code."""
    spread = losses.std()
    score = (losses - losses.mean()) / jnp.where(spread > 0, spread, 1)
    return jax.nn.softmax(score / TEMPERATURE)


def sites(model: Model, variables: Variables, batch: Batch) -> dict[str, Site]:
    """The features that can be set to zero, shallow to deep, found by looking at the values that
    a few examples give: what passes between stages, or what the head reads of the last.
    """
    backbone, key = model.backbone, jax.random.key(0)
    last = model.depth if isinstance(backbone, Staged) else 0

    def run(variables: Variables, batch: Batch) -> list[tuple[Any, Features]]:
        params, state = variables.params["backbone"], variables.state["backbone"]
        carry = model.preprocess(batch)
        if not isinstance(backbone, Staged):
            return [(None, backbone.apply(params, state, carry, rng=key, mode="eval")[0])]
        stages = []
        for start in range(last):
            carry, features, _ = backbone.apply_stages(
                params, state, carry, start=start, stop=start + 1, rng=key, mode="eval"
            )
            stages.append((carry, features))
        return stages

    found, stages = {}, compiled(run)(variables, batch)
    # Only within its stage: a layer that does nothing yet passes on what the one before it gave.
    for number, (carry, features) in enumerate(stages, 1):
        read = [name for name in (model.head.needs if model.head else ()) if name in features]
        for name, value in features.items():
            mean = pooled(value)
            copies = tuple(
                other
                for other in read
                if _same(features[other], value) or _same(features[other], mean)
            )
            passes = number < len(stages) and _same(carry, value)
            if passes or (number == len(stages) and copies):
                start = number if passes else last
                found[name] = Site(name, value.shape[-1], start, copies)
    return {spec.name: found[spec.name] for spec in backbone.features if spec.name in found}


def _same(one: Any, other: Array) -> bool:
    return (
        isinstance(one, Array)
        and one.shape == other.shape
        and bool(jnp.allclose(one, other, rtol=1e-5, atol=1e-7))
    )


def losses_without(
    model: Model,
    variables: Variables,
    batch: Batch,
    places: Iterable[Site],
    *,
    at_once: int | None = None,
) -> dict[str, Array]:
    """Feature name -> (C,): the task loss without each channel, summed over the batch's examples
    by their weights, in mode 'eval'. `at_once` channels are one vmapped pass: by default one on
    the CPU, where more took longer, elsewhere what makes `PASS` pictures."""
    if at_once is None:
        on_cpu = jax.default_backend() == "cpu"
        at_once = 1 if on_cpu else max(1, PASS // len(batch.weight))
    features, _ = model.features(variables, batch, rng=jax.random.key(0), mode="eval")
    return {
        site.name: jax.lax.map(
            partial(loss_without, model, variables, batch, features, site),
            jnp.arange(site.channels),
            batch_size=at_once,
        )
        for site in places
    }


def loss_without(
    model: Model,
    variables: Variables,
    batch: Batch,
    features: Features,
    site: Site,
    channel: Array,
) -> Array:
    """The same for one channel of one feature, where `features` are those of the batch."""
    head, backbone, key = model.head, model.backbone, jax.random.key(0)
    assert head is not None
    others = jnp.arange(site.channels) != channel
    seen = {**features, **{name: features[name] * others for name in site.copies}}
    if isinstance(backbone, Staged) and site.start < model.depth:
        params, state = variables.params["backbone"], variables.state["backbone"]
        carry = features[site.name] * others
        _, deeper, _ = backbone.apply_stages(
            params, state, carry, start=site.start, stop=model.depth, rng=key, mode="eval"
        )
        seen |= deeper
    outputs, _ = model.apply_head(variables, seen, inputs=batch.inputs, rng=key, mode="eval")
    return jnp.sum(head.loss(outputs, batch) * batch.weight)


def fitted_head(head: Head, seen: Examples, penalty: float, rng: Array) -> Variables:
    """The head that has the smallest mean loss over these examples, plus `penalty` · ½ ‖w‖² over
    its parameters, which keeps it finite where classes can be told apart without error."""
    top = head.init(rng, seen.features)

    def objective(features: Features, batch: Batch, params: Params) -> Array:
        outputs, _ = head.apply(
            params, top.state, features, inputs=batch.inputs, rng=rng, mode="eval"
        )
        return head.loss(outputs, batch).mean() + penalty * half_squares(params)

    @jax.jit
    def solve(features: Features, batch: Batch, start: Params) -> Params:
        return minimise(partial(objective, features, batch), start, tolerance=1e-6)[0]

    return Variables(solve(seen.features, seen.batch, top.params), top.state)


def observed(
    model: Model, variables: Variables, batches: Iterable[Batch], count: int, rng: Array
) -> tuple[Examples, list[Batch]]:
    """(the features of all examples that the head needs, batches of `count` examples drawn at
    random). Goes through `batches` once and holds no other pictures than those drawn."""
    head = model.head
    assert head is not None

    @jax.jit
    def see(variables: Variables, batch: Batch) -> Features:
        features, _ = model.features(variables, batch, rng=rng, mode="eval")
        where = " of the source, which the new head reads,"
        return {name: feature(features, name, "delta", where) for name in head.needs}

    draw = np.random.default_rng(np.asarray(jax.random.key_data(rng)))
    parts: list[Any] = []
    pool: Any = None
    inputs, rows = {}, 1
    for batch in batches:
        real = np.flatnonzero(np.asarray(batch.weight))
        rows, inputs = len(batch.weight), jax.tree.map(lambda leaf: leaf[:1], batch.inputs)
        seen = see(variables, batch._replace(targets={}))
        parts.append(_taken((seen, batch._replace(inputs={}, frozen=None)), real))
        new = _taken((draw.random(rows), batch), real)
        pool = new if pool is None else _joined([pool, new])
        pool = _taken(pool, np.argsort(pool[0])[:count])  # the smallest so far: a fair sample
    if pool is None:
        raise ConfigError("Channel attention is measured on training examples; there are none.")
    features, labels = jax.tree.map(jnp.asarray, _joined(parts))
    return Examples(features, labels._replace(inputs=inputs)), _cut(pool[1], rows)


def _cut(examples: Batch, rows: int) -> list[Batch]:
    """Batches of `rows`; the last is filled up with examples of weight 0."""
    count = len(examples.weight)
    found = []
    for first in range(0, count, rows):
        numbers = np.arange(first, first + rows)
        batch = _taken(examples, numbers % count)
        found.append(batch._replace(weight=batch.weight * (numbers < count)))
    return found


def _taken(tree: Any, rows: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)


def _joined(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)
