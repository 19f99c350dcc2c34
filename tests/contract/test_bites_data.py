"""Broken data sources, augmentations, weights and sinks: each fails exactly its own check."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_data.image_info import image_info

from tlx.contracts.field import Warp
from tlx.testing import check, checks, failures
from tlx.testing.altered import altered, loose
from tlx.testing.samples import weights
from tlx.types import Tensors

COUNT = itertools.count()
WRITTEN = {}


class Rows:
    """Six pictures in memory."""

    def __init__(self, change=lambda example, index: example, shift=0):
        self.change = change
        self.labels = (np.arange(6) + shift) % 3

    def __len__(self):
        return 6

    def __getitem__(self, index):
        picture = np.full((4, 5, 3), 10 * index, np.uint8)
        return self.change({"image": picture, "label": np.int64(index % 3)}, index)


def source(change=lambda example, index: example, shift=0, **info):
    facts = {
        "name": "rows",
        "shape": (4, 5, 3),
        "classes": ("a", "b", "c"),
        "splits": {"train": 6},
        "fingerprint": "f",
    }
    return altered(
        SimpleNamespace(), info=image_info(**(facts | info)), split=lambda name: Rows(change, shift)
    )


def too_bright(example, index):
    return {**example, "image": example["image"].astype(np.float32)}


def restless(example, index):
    return {**example, "image": example["image"] + np.uint8(next(COUNT) % 100)}


DATASETS = {
    "value": lambda: loose(source()),
    "info": lambda: source(fingerprint=""),
    "lengths": lambda: source(splits={"train": 7}),
    "fields": lambda: source(too_bright),
    "labels": lambda: source(classes=("a", "b")),
    "reading_twice": lambda: source(restless),
    "fingerprint": lambda: source(fingerprint=str(next(COUNT))),
    "labels_at_once": lambda: source(shift=1),
}


def dim(rng, image):
    return image * jax.random.uniform(rng)


def grey(rng, image):
    return dim(rng, image).mean(-1)


def bright(rng, image):
    return image + jax.random.uniform(rng)


def restless_picture(rng, image):
    spec = jax.ShapeDtypeStruct((), jnp.float32)

    def draw():
        return np.float32(1e-6 * (next(COUNT) % 7))

    return dim(rng, image) * (1 - jax.pure_callback(draw, spec))


def mirrored(rng, image):
    return image[:, ::-1]


def sometimes_mirrored(rng, image):
    return jnp.where(jax.random.bernoulli(rng), image[:, ::-1], image)


sometimes_mirrored.keeps_places = True


def unlike_its_draw(rng, image):
    return jnp.where(jax.random.bernoulli(rng), image[:, ::-1], image)


unlike_its_draw.draw = lambda rng, size: Warp(jnp.eye(2, 3), size, size)


@jax.custom_batching.custom_vmap
def other_in_vmap(rng, image):
    return dim(rng, image)


@other_in_vmap.def_vmap
def _(size, batched, rng, image):
    axes = tuple(0 if b else None for b in batched)
    return jax.vmap(dim, axes)(rng, image) / 2, True


def blended(share):
    def mix(rng, image, other):
        own = jax.random.uniform(rng)
        return own * image + (1 - own) * other, share(own)

    return altered(SimpleNamespace(), mix=mix)


def placed(mixture):
    return altered(mixture, keeps_places=True)


AUGMENTATIONS = {
    "value": lambda: lambda rng, image: dim(rng, image),
    "shape": lambda: grey,
    "range": lambda: bright,
    "same_key_same_picture": lambda: restless_picture,
    "keys_differ": lambda: mirrored,
    "vmap_equals_single": lambda: other_in_vmap,
    "share": lambda: blended(lambda own: 1 + own),
    "places": lambda: sometimes_mirrored,
    "draw": lambda: unlike_its_draw,
}


def file(tensors=lambda: read(), **members):
    """A source with the sample weights in memory."""
    return altered(SimpleNamespace(), **({"tensors": tensors} | members))


def read(change=lambda values: values, origin="memory", sha256=""):
    return Tensors(change(weights()), origin, sha256)


def changed(change):
    return lambda: file(lambda: read(change))


def without(values):
    del values["params/head/kernel"]
    return values


def on_device(values):
    return {name: jnp.asarray(array) for name, array in values.items()}


def drifting(values):
    return {name: array + np.float32(2e-7 * (next(COUNT) % 5)) for name, array in values.items()}


def forgetful():
    """Writes zeros for one of the tensors."""
    zeros = {"params/head/kernel": np.zeros((4, 3), np.float32)}
    return file(
        lambda: read(lambda values: values | WRITTEN),
        write=lambda tensors, about: WRITTEN.update(zeros),
    )


WEIGHTS = {
    "value": lambda: loose(file()),
    "about": lambda: file(classes=["a", "b"]),
    "tensors": changed(on_device),
    "origin": lambda: file(lambda: read(origin=" ")),
    "numbers": changed(without),
    "same_twice": changed(drifting),
    "write": forgetful,
}


class Listener:
    """Hears events and does one thing wrong: `hear(event, out)`, `end(times)`."""

    def __init__(self, hear=lambda event, out: None, end=lambda times: None):
        self.hear, self.end, self.closed, self.out = hear, end, 0, Path()

    def emit(self, event):
        self.out = Path(event.data["out"]) if event.kind == "start" else self.out
        self.hear(event, self.out)

    def close(self):
        self.closed += 1
        self.end(self.closed)


def only_runs(event, out):
    assert event.kind != "study"


def only_finite(event, out):
    assert math.isfinite(event.data.get("loss", 0))


def only_once(event, out):
    if event.kind == "start":
        (out / "mine.txt").open("x").close()


def only_closed_once(times):
    assert times < 2


def scribbles(event, out):
    event.data["heard"] = True


def tidies(event, out):
    if event.kind == "finish":
        (out / "result.json").unlink(missing_ok=True)


SINKS = {
    "whole_run": lambda: Listener(only_runs),
    "bare_run": lambda: Listener(only_finite),
    "resumed_run": lambda: Listener(only_once),
    "closes_twice": lambda: Listener(end=only_closed_once),
    "changes_no_event": lambda: Listener(scribbles),
    "leaves_files_alone": lambda: Listener(tidies),
}
BROKEN = {
    "datasets": DATASETS,
    "augmentations": AUGMENTATIONS,
    "weights": WEIGHTS,
    "sinks": SINKS,
}
SOUND = {
    "datasets": lambda: source(),
    "augmentations": lambda: dim,
    "weights": lambda: file(),
    "sinks": lambda: Listener(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_sound_toy_passes(kind):
    assert failures(kind, SOUND[kind]) == {}


def test_a_sound_mixture_passes():
    assert failures("augmentations", lambda: blended(lambda own: own)) == {}
    assert "check_share" in check("augmentations", lambda: blended(lambda own: own))
    assert failures("augmentations", lambda: placed(blended(lambda own: own))) == {}
    assert list(failures("augmentations", lambda: placed(blended(lambda own: own / 2)))) == [
        "check_places"
    ]
    assert "check_share" in failures("augmentations", lambda: blended(lambda own: own[None]))


@pytest.mark.parametrize("kind", BROKEN)
def test_every_check_has_a_toy_that_it_catches(kind):
    assert {f"check_{name}" for name in BROKEN[kind]} == set(checks(kind))


@pytest.mark.parametrize(
    ("kind", "check"), [(kind, check) for kind, toys in BROKEN.items() for check in toys]
)
def test_a_broken_toy_fails_its_own_check_alone(kind, check):
    found = failures(kind, BROKEN[kind][check])
    assert list(found) == [f"check_{check}"], found
