"""Pictures that are mixed in pairs, and what a head makes of one that has two labels.

Each example of a training batch gets another one as its partner; an augmentation that `Mixes` says
how the two become one picture, and how much each label counts. A loss is then the mean of the
losses for both labels with these weights, which for cross-entropy, binary or not, is the loss for
the mixed label, and for squared error differs from it by a number that no parameter moves.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from tlx import returned
from tlx.contracts.calls import called
from tlx.protocols import Head, Mixes
from tlx.types import Batch, Mixed, PyTree, with_entry


def mixed(change: Mixes, batch: Batch, rng: Array, entries: tuple[str, ...]) -> Batch:
    """The batch with every value of some entries mixed with its partner's, by one share."""
    for_partners, for_pictures = jax.random.split(rng)
    partner = partners(for_partners, batch.weight)
    keys = jax.random.split(for_pictures, len(partner))
    share = jnp.ones(len(partner), jnp.float32)
    for entry in entries:
        with called(change, "augmentation", "mix"):
            values = batch.inputs[entry]
            values, share = jax.vmap(change.mix)(keys, values, values[partner])
        batch = with_entry(batch, entry, values)
    others = jax.tree.map(lambda leaf: leaf[partner], batch.targets)
    return batch._replace(mixed=Mixed(others, share))


def partners(rng: Array, weight: Array) -> Array:
    """(B,) the number of another example for each, drawn at random from those whose `weight` (B,)
    is above 0. One of weight 0, or without another, has itself."""
    real = weight > 0
    # Those that count come first, in random order; each has the next one, the last the first.
    order = jnp.argsort(jnp.where(real, jax.random.uniform(rng, weight.shape), 2))
    count, place = real.sum(), jnp.arange(len(weight))
    after = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros_like(order).at[order].set(order[after])


def loss(head: Head, outputs: PyTree, batch: Batch) -> Array:
    """(B,) the head's loss; where pictures are mixed, that for both labels by their shares."""
    own = _loss(head, outputs, batch)
    if batch.mixed is None:
        return own
    targets, share = batch.mixed
    return share * own + (1 - share) * _loss(head, outputs, batch._replace(targets=targets))


def _loss(head: Head, outputs: PyTree, batch: Batch) -> Array:
    """(B,) the head's loss. Raises ContractError where it fails, or gives anything else."""
    with called(head, "head", "loss", {"batch": batch}):
        found = head.loss(outputs, batch)
    count, who = len(batch.weight), f"`loss` of the head {type(head).__name__}"
    returned.per_example(found, count, who, head.loss)
    return found


def judged(batch: Batch) -> Batch:
    """The batch as a head measures it: of mixed pictures, with the label that counts more."""
    if batch.mixed is None:
        return batch
    others, mostly = batch.mixed.targets, batch.mixed.share >= 0.5

    def one(own: Array, other: Array) -> Array:
        return jnp.where(mostly.reshape(-1, *(1,) * (own.ndim - 1)), own, other)

    return batch._replace(targets=jax.tree.map(one, batch.targets, others))
