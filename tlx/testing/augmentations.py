"""What every augmentation must do: change one picture, or mix it with another, at random, in jit,
under vmap."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx.contracts.outside import Geometric
from tlx.protocols import Augmentation, KeepsPlaces, Mixes
from tlx.testing.claims import (
    NotApplicable,
    claim,
    claim_close,
    claim_finite,
    claim_same,
    claim_value,
)
from tlx.testing.compiling import quick_jit

BATCH, SIZE = 5, (12, 10)
SPOT = (slice(2, 4), slice(6, 8))
"""Off the middle, so that it is elsewhere in a mirror."""


@final
class Subject:
    """An augmentation under test, with pictures (5,12,10,3) in 0..1 that hold both ends."""

    def __init__(self, make: Callable[[], Augmentation | Mixes], folder: Path):
        self.make = make
        uniform = np.random.default_rng(0).uniform(-0.2, 1.2, (BATCH, *SIZE, 3))
        self.images = np.clip(uniform, 0, 1).astype(np.float32)
        self.keys = jax.random.split(jax.random.key(1), BATCH)

    @cached_property
    def thing(self) -> Augmentation | Mixes:
        """The augmentation."""
        return self.make()

    @cached_property
    def change(self) -> Augmentation:
        """What it does to one picture; what mixes two gets the same partner for each."""
        thing = self.thing
        if not isinstance(thing, Mixes):
            return thing
        partner = jnp.asarray(self.images[0, ::-1])
        return lambda rng, image: thing.mix(rng, image, partner)[0]

    @cached_property
    def single(self) -> Any:
        """The augmentation of one picture, compiled."""
        return quick_jit(self.change)

    @cached_property
    def many(self) -> jax.Array:
        """All pictures, each with its own key, in jit under vmap."""
        return quick_jit(jax.vmap(self.change))(self.keys, self.images)


def check_value(subject: Subject) -> None:
    """Equal configuration, equal augmentation."""
    claim_value(subject.make, "An augmentation")


def check_shape(subject: Subject) -> None:
    """A floating picture (H',W',C) comes back, with the channels that went in."""
    one = jax.eval_shape(subject.change, subject.keys[0], subject.images[0])
    claim(
        len(one.shape) == 3 and one.shape[2] == 3 and jnp.issubdtype(one.dtype, jnp.floating),
        f"An augmentation of a picture {(*SIZE, 3)} must give a floating picture (H,W,3); this one "
        f"gives {one.dtype}{one.shape}.",
    )


def check_range(subject: Subject) -> None:
    """Pictures stay within 0..1."""
    claim_finite(subject.many, "The augmented pictures")
    low, high = float(subject.many.min()), float(subject.many.max())
    claim(
        low >= -1e-5 and high <= 1 + 1e-5,
        f"Pictures must stay within 0..1; after the augmentation they go from {low:.4g} to "
        f"{high:.4g}.",
    )


def check_same_key_same_picture(subject: Subject) -> None:
    """The same key gives the same picture; compiled afresh, too, so that no number hides that was
    drawn while tracing."""
    seen = subject.keys[0], subject.images[0]
    one, other = subject.single(*seen), quick_jit(lambda k, i: subject.change(k, i))(*seen)
    claim_same(one, other, "Two pictures from the same key")


def check_keys_differ(subject: Subject) -> None:
    """Another key gives another picture, sooner or later: 64 keys are tried."""
    keys = jax.random.split(jax.random.key(2), 64)
    found = np.asarray(quick_jit(jax.vmap(subject.change, (0, None)))(keys, subject.images[0]))
    claim(
        np.any(found != found[:1]),
        "64 keys give the same picture; a change that is not random belongs in the data.",
    )


def check_vmap_equals_single(subject: Subject) -> None:
    """A picture changes in a batch as it does alone."""
    pairs = zip(subject.keys, subject.images, strict=True)
    alone = np.stack([subject.single(key, image) for key, image in pairs])
    claim_close(subject.many, alone, "Pictures augmented in a batch against one at a time")


def check_share(subject: Subject) -> None:
    """What mixes two pictures says how much the first one's label counts, from 0 to 1."""
    thing = subject.thing
    if not isinstance(thing, Mixes):
        raise NotApplicable("It changes one picture and no label.")
    keys = jax.random.split(jax.random.key(2), 64)
    mix = quick_jit(jax.vmap(lambda key: thing.mix(key, *subject.images[:2])[1]))
    share = np.asarray(mix(keys))
    claim(
        share.shape == (64,) and np.issubdtype(share.dtype, np.floating),
        f"`mix` must give a floating scalar beside a picture, the share of the first one's label; "
        f"this one gives {share.dtype}{share.shape[1:]}.",
    )
    claim(
        np.all((share >= 0) & (share <= 1)),
        f"Shares must be between 0 and 1; 64 keys give {share.min():.4g} to {share.max():.4g}.",
    )


def check_places(subject: Subject) -> None:
    """What says that it keeps places does: two pictures that differ in a spot, changed with the
    same key, differ there and nowhere else, or no more; what mixes counts the spot by its share."""
    thing = subject.thing
    if not (isinstance(thing, KeepsPlaces) and thing.keeps_places):
        raise NotApplicable("It does not say that every pixel stays in its place.")
    keys = jax.random.split(jax.random.key(3), 64)
    plain = (0.3 + 0.4 * subject.images[0]).astype(np.float32)
    spotted = plain.copy()
    spotted[SPOT] += 0.3
    changed = quick_jit(jax.vmap(subject.change, (0, None)))
    apart = np.abs(np.asarray(changed(keys, spotted)) - np.asarray(changed(keys, plain)))
    weight = np.square(apart.sum(-1))
    there = weight.sum((1, 2)) > 1e-6  # else the spot was erased
    total = np.where(there, weight.sum((1, 2)), 1)
    places = np.stack([*np.indices(SIZE)], -1).reshape(-1, 2)
    middle = (weight.reshape(len(keys), -1) @ places) / total[:, None]
    wanted = places.reshape(*SIZE, 2)[SPOT].reshape(-1, 2).mean(0)
    claim(
        np.all(np.abs(middle - wanted).max(1)[there] < 1),
        "It says `keeps_places`, and what was in one place of a picture is in another afterwards; "
        "leave the word out, so that it is refused beside labels of every pixel.",
    )
    if isinstance(thing, Mixes):
        mix = quick_jit(jax.vmap(thing.mix, (0, None, None)))
        share = np.asarray(mix(keys, spotted, plain)[1])
        claim_close(
            apart[:, SPOT[0], SPOT[1]].mean((1, 2, 3)),
            0.3 * share,
            "How much a spot of the first picture counts, against the share of its label",
        )


def check_draw(subject: Subject) -> None:
    """What says how it moves an image moves it so: a spot is where the same key's warp says."""
    thing = subject.thing
    if not isinstance(thing, Geometric):
        raise NotApplicable("It does not say how it moves what is in an image.")
    keys = jax.random.split(jax.random.key(4), 64)
    warp = thing.draw(keys[0], SIZE)
    one = jax.eval_shape(subject.change, subject.keys[0], subject.images[0])
    claim(
        tuple(warp.original) == SIZE and tuple(warp.size) == one.shape[:2],
        f"`draw` for an image of {SIZE} has to give a warp from {SIZE} to {one.shape[:2]}, which "
        f"is what the call makes of it; this one is from {warp.original} to {warp.size}.",
    )
    plain = (0.3 + 0.4 * subject.images[0]).astype(np.float32)
    spotted = plain.copy()
    spotted[SPOT] += 0.3
    changed = quick_jit(jax.vmap(subject.change, (0, None)))
    weight = np.abs(np.asarray(changed(keys, spotted)) - np.asarray(changed(keys, plain))).sum(-1)
    there = weight.sum((1, 2)) > 1e-3  # else the spot was moved out
    total = np.where(there, weight.sum((1, 2)), 1)
    places = np.stack([*np.indices(warp.size)], -1).reshape(-1, 2) + 0.5
    seen = (weight.reshape(len(keys), -1) @ places) / total[:, None]
    drawn = quick_jit(jax.vmap(lambda key: thing.draw(key, SIZE).matrix))(keys)
    matrices = np.asarray(drawn, np.float64)
    came = np.einsum("nij,nj->ni", matrices[:, :, :2], seen) + matrices[:, :, 2]
    wanted = np.stack([*np.indices(SIZE)], -1)[SPOT].reshape(-1, 2).mean(0) + 0.5
    off = np.abs(came - wanted).max(1)[there]
    claim(
        len(off) > 0 and np.all(off < 1.5),
        f"A spot of an image is not where `draw` says that it is moved to by the same key: up to "
        f"{off.max(initial=0):.3g} pixels away. A warp's matrix takes a point (y, x, 1) of the "
        f"result to the point of the original that is seen there.",
    )
