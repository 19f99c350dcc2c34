"""What every augmentation must do: change one picture at random, in jit, under vmap."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx.protocols import Augmentation
from tlx.testing.claims import claim, claim_close, claim_finite, claim_same, claim_value
from tlx.testing.compiling import quick_jit

BATCH, SIZE = 5, (12, 10)


@final
class Subject:
    """An augmentation under test, with pictures (5,12,10,3) in 0..1 that hold both ends."""

    def __init__(self, make: Callable[[], Augmentation], folder: Path):
        self.make = make
        uniform = np.random.default_rng(0).uniform(-0.2, 1.2, (BATCH, *SIZE, 3))
        self.images = np.clip(uniform, 0, 1).astype(np.float32)
        self.keys = jax.random.split(jax.random.key(1), BATCH)

    @cached_property
    def thing(self) -> Augmentation:
        """The augmentation."""
        return self.make()

    @cached_property
    def single(self) -> Any:
        """The augmentation of one picture, compiled."""
        return quick_jit(self.thing)

    @cached_property
    def many(self) -> jax.Array:
        """All pictures, each with its own key, in jit under vmap."""
        return quick_jit(jax.vmap(self.thing))(self.keys, self.images)


def check_value(subject: Subject) -> None:
    """Equal configuration, equal augmentation."""
    claim_value(subject.make, "An augmentation")


def check_shape(subject: Subject) -> None:
    """A floating picture (H',W',C) comes back, with the channels that went in."""
    one = jax.eval_shape(subject.thing, subject.keys[0], subject.images[0])
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
    one, other = subject.single(*seen), quick_jit(lambda k, i: subject.thing(k, i))(*seen)
    claim_same(one, other, "Two pictures from the same key")


def check_keys_differ(subject: Subject) -> None:
    """Another key gives another picture, sooner or later: 64 keys are tried."""
    keys = jax.random.split(jax.random.key(2), 64)
    found = np.asarray(quick_jit(jax.vmap(subject.thing, (0, None)))(keys, subject.images[0]))
    claim(
        np.any(found != found[:1]),
        "64 keys give the same picture; a change that is not random belongs in the data.",
    )


def check_vmap_equals_single(subject: Subject) -> None:
    """A picture changes in a batch as it does alone."""
    pairs = zip(subject.keys, subject.images, strict=True)
    alone = np.stack([subject.single(key, image) for key, image in pairs])
    claim_close(subject.many, alone, "Pictures augmented in a batch against one at a time")
