"""From a subset of a split to batches.

A training batch is a pure function of (data, seed, step): always full, wrapping around, in a new
order every epoch. Evaluation sees every example once, in order; the last batch is filled up with
examples of weight 0, so that every batch has one shape. Batches are made ahead, in threads, while
the device computes (grain underneath).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import grain
import numpy as np

from tlx.data.decode import fit
from tlx.data.given_pictures import refuse_range
from tlx.data.splits import Subset, shuffled
from tlx.errors import DataError
from tlx.types import Batch, InputSpec

Batches: TypeAlias = Generator[Batch, None, None]
"""Batches as they are made; `close()` stops the threads that make them ahead."""
PLAIN = InputSpec()
"""Pictures are resized in the common way and not cropped."""
WHOLE = slice(None)
"""All rows of a batch."""
ENDLESS = 2**62
"""More steps than there will be."""


def training(
    subset: Subset,
    *,
    batch_size: int,
    seed: int | str,
    canvas: tuple[int, int],
    inputs: InputSpec = PLAIN,
    balanced: bool = False,
    start: int = 0,
    own: slice = WHOLE,
    threads: int | None = None,
) -> Batches:
    """The endless batches from step `start` on: what an uninterrupted stream yields at that step.

    The inputs of each are `image` (B,H,W,3) uint8, or float32 0..1 where the source gives floats,
    on a canvas of (H,W), cropped and resized as `inputs` says; its targets are `label`; `index`
    (B,) int32 is the example's number in the source's own split and `weight` (B,) float32 is all 1.
    `balanced`: every class is drawn
    equally often, whatever it has. Only the rows `own` of each are read
    and given. `close()` stops the threads. Raises DataError for an empty subset and for examples
    that do not go together."""
    if len(subset) == 0:
        raise DataError(f"There is nothing to train on: the subset of {subset.name!r} is empty.")
    count = len(subset)
    weight = np.ones(batch_size, np.float32)

    drawn = order(subset.labels if balanced else count, batch_size, seed)

    def at(step: int) -> Batch:
        return _batch(subset, drawn(step).positions[own], weight[own], canvas, inputs)

    return _ahead(grain.MapDataset.range(start, ENDLESS).map(at), threads)


class Drawn(NamedTuple):
    """Which examples a batch holds, `positions` (B,), and how often each was drawn before,
    `epochs` (B,)."""

    positions: np.ndarray
    epochs: np.ndarray


def order(of: int | np.ndarray, batch_size: int, seed: int | str) -> Callable[[int], Drawn]:
    """Step -> what is drawn of so many examples: every one once an epoch, wrapping around, in a new
    order each time. Of labels (N,), every class once a round in a new order each time, and within a
    class every example in the same way: class-balanced sampling (Kang et al. 2020,
    arXiv:1910.09217, section 3.1) without its chance."""
    if isinstance(of, np.ndarray):
        return _by_class(of, batch_size, seed)

    # Not grain's own shuffle: its time per example grows as the subset shrinks, to milliseconds
    # in a few-shot subset.
    @lru_cache(maxsize=4)
    def shuffle(epoch: int) -> np.ndarray:
        return shuffled(of, f"order/{seed}/{epoch}")

    def at(step: int) -> Drawn:
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), of)
        each = [shuffle(e)[places[epochs == e]] for e in range(epochs[0], epochs[-1] + 1)]
        return Drawn(np.concatenate(each), epochs)

    return at


def _by_class(labels: np.ndarray, batch_size: int, seed: int | str) -> Callable[[int], Drawn]:
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    @lru_cache(maxsize=4 + batch_size // len(members))
    def classes(turn: int) -> np.ndarray:
        return shuffled(len(members), f"classes/{seed}/{turn}")

    @lru_cache(maxsize=2 * len(members))
    def shuffle(which: int, epoch: int) -> np.ndarray:
        return shuffled(len(members[which]), f"order/{seed}/{which}/{epoch}")

    def one(number: int) -> tuple[int, int]:
        turn, place = divmod(number, len(members))
        which = int(classes(turn)[place])
        epoch, place = divmod(turn, len(members[which]))
        return int(members[which][shuffle(which, epoch)[place]]), epoch

    def at(step: int) -> Drawn:
        found = [one(number) for number in range(step * batch_size, (step + 1) * batch_size)]
        return Drawn(*np.asarray(found).T)

    return at


def evaluation(
    subset: Subset,
    *,
    batch_size: int,
    canvas: tuple[int, int],
    inputs: InputSpec = PLAIN,
    own: slice = WHOLE,
    threads: int | None = None,
) -> Batches:
    """Every example once, in order, in batches like those of `training`; in the last one the final
    example is repeated with weight 0 until the batch is full. An empty subset has no batches."""
    count = len(subset)

    def at(step: int) -> Batch:
        positions = np.arange(step * batch_size, (step + 1) * batch_size)[own]
        weight = (positions < count).astype(np.float32)
        return _batch(subset, np.minimum(positions, count - 1), weight, canvas, inputs)

    return _ahead(grain.MapDataset.range(-(-count // batch_size)).map(at), threads)


def _ahead(steps: Any, threads: int | None) -> Batches:
    threads = threads or min(os.cpu_count() or 1, 16)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)
    batches = iter(steps.to_iter_dataset(options))
    try:
        yield from batches
    finally:
        batches.close()


def _batch(
    subset: Subset,
    positions: np.ndarray,
    weight: np.ndarray,
    canvas: tuple[int, int],
    inputs: InputSpec,
) -> Batch:
    examples = [subset[int(position)] for position in positions]
    index = subset.indices[positions]
    return Batch(
        {"image": _images(subset, examples, index, canvas, inputs)},
        {"label": _labels(subset, examples)},
        index.astype(np.int32),
        weight.copy(),
    )


def _images(
    subset: Subset,
    examples: Sequence[Mapping[str, Any]],
    index: np.ndarray,
    canvas: tuple[int, int],
    inputs: InputSpec,
) -> np.ndarray:
    images = []
    for example, number in zip(examples, index, strict=True):
        image = np.asarray(example["image"])
        floats = np.issubdtype(image.dtype, np.floating)
        if image.ndim != 3 or image.shape[2] != 3 or not (floats or image.dtype == np.uint8):
            raise DataError(
                f"Example {number} of {subset.name!r} is a picture of shape {image.shape} and type "
                f"{image.dtype}; a data source gives (H,W,3), uint8 or float 0 to 1."
            )
        if floats:
            refuse_range(image, f"The picture of example {number} of {subset.name!r}")
        images.append(fit(image, canvas, inputs.crop, inputs.interpolation))
    if len({image.dtype for image in images}) > 1:
        raise DataError(f"The pictures of {subset.name!r} are partly uint8 and partly float.")
    stacked = np.stack(images)
    return stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32, copy=False)


def _labels(subset: Subset, examples: Sequence[Mapping[str, Any]]) -> np.ndarray:
    try:
        labels = np.stack([np.asarray(example["label"]) for example in examples])
    except ValueError as error:
        raise DataError(f"The labels of {subset.name!r} have different shapes.") from error
    return labels.astype(np.int32 if np.issubdtype(labels.dtype, np.integer) else np.float32)
