"""A frozen prefix is computed once, not every epoch.

Where the first stages of a backbone do not move, what they say of a picture never changes: it is
kept for every example, or for a few augmented views of each, and handed to the rest of the network
with each batch. The batches are those of `tlx.stream`, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from tlx.contracts.phase import Examples
from tlx.data.moved_targets import SpatialTargets
from tlx.data.splits import Subset
from tlx.devices.compiled import compiled
from tlx.devices.reads import read_by
from tlx.devices.rows import taken
from tlx.model import Model
from tlx.objective import altered
from tlx.protocols import Augmentation
from tlx.stream import WHOLE, order
from tlx.types import Batch, FrozenFeatures, PyTree, Variables

SIZE = 64
"""Pictures at a time. Not the run's batch size, which decides nothing here: what is kept serves
runs with another one, and a prefix rounds a little differently in batches of another size."""

Read: TypeAlias = Callable[[Subset, int], Iterator[Batch]]
"""A split's batches of a size as `tlx.stream.evaluation` makes them, on the host."""


class Table(NamedTuple):
    """Everything of a split: a batch of all its rows, `frozen` among them, as (views*N,...) arrays
    on the host, view by view. What nobody reads is one row for all, and so is the weight."""

    rows: Batch
    views: int = 1

    def __len__(self) -> int:
        return len(self.rows.index) // self.views

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.rows))

    def numbers(
        self, batch_size: int, seed: int | str, balanced: bool = False
    ) -> Callable[[int], np.ndarray]:
        """Step -> which rows (B,) its batch holds: epoch e has view e mod `views`."""
        count = len(self)
        labels = self.rows.targets["label"][:count] if balanced else count
        drawn = order(labels, batch_size, seed)

        def of(step: int) -> np.ndarray:
            positions, epochs = drawn(step)
            return positions + count * (epochs % self.views)

        return of

    def at(self, numbers: np.ndarray, weight: np.ndarray) -> Batch:
        """The batch of these rows, on the host."""
        return taken(self.rows, numbers)._replace(weight=weight)

    def training(
        self,
        batch_size: int,
        seed: int | str,
        start: int,
        own: slice = WHOLE,
        balanced: bool = False,
    ) -> Iterator[Batch]:
        """As `tlx.stream.training`."""
        numbers = self.numbers(batch_size, seed, balanced)
        ones = np.ones(batch_size, np.float32)[own]
        for step in range(start, 2**62):
            yield self.at(numbers(step)[own], ones)

    def evaluation(self, batch_size: int, own: slice = WHOLE) -> Iterator[Batch]:
        """As `tlx.stream.evaluation`; of several views the first."""
        for first in range(0, len(self), batch_size):
            positions = np.arange(first, first + batch_size)[own]
            weight = (positions < len(self)).astype(np.float32)
            yield self.at(np.minimum(positions, len(self) - 1), weight)

    def examples(self) -> Examples:
        """All of them at once, as an exact solver wants them."""
        assert self.rows.frozen is not None
        rows = self.rows._replace(weight=np.ones(len(self), np.float32), frozen=None)
        features = jax.tree.map(jnp.asarray, self.rows.frozen.features)
        return Examples(features, jax.tree.map(jnp.asarray, rows))


@final
@dataclass(frozen=True)
class Recipe:
    """What is kept of every picture: the named `features` of the frozen stages, and what the
    stages after them need; `pictures` themselves where somebody reads them. With augmentations,
    that of `views` versions of each, drawn with `seed`, with which the targets move that are
    `spatial`."""

    model: Model
    features: frozenset[str]
    pictures: bool
    augmentations: tuple[Augmentation, ...] = ()
    views: int = 1
    seed: int = 0
    spatial: SpatialTargets = ()

    def __call__(self, variables: Variables, batch: Batch, view: Any) -> Batch:
        """The batch with what is kept of it; its `index` (B,) and `view` seed the version."""
        batch = self.view(batch, view)
        found = self.model.frozen_features(variables, batch, rng=jax.random.key(0))
        named = {k: v for k, v in found.features.items() if k in self.features}
        kept = batch.inputs if self.pictures else {}
        return batch._replace(inputs=kept, frozen=FrozenFeatures(found.carry, named))

    def view(self, batch: Batch, view: Any) -> Batch:
        """The version of the batch that the network sees."""
        if not self.augmentations:
            return batch
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), 3), view)
        own = jax.vmap(lambda number: jax.random.fold_in(key, number))(batch.index)
        each = jax.vmap(jax.random.fold_in, (0, None))
        keys = lambda number: each(own, number)  # noqa: E731
        return altered(self.augmentations, batch, keys, self.model.ports, self.spatial)


class Order(NamedTuple):
    """A table that is to be made. `key` is the same for the same numbers: a digest of the program,
    of the parameters that it reads, and of the data. `like` has the shapes of its rows, without
    inputs that nobody reads, of which `blank` has the shapes; `parts` computes them, without
    weights."""

    key: str
    like: Batch
    blank: Mapping[str, PyTree]
    views: int
    parts: Callable[[], Iterator[Batch]]

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.like))

    def table(self, rows: Batch) -> Table:
        """The table that has these rows."""
        blank = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape[1:]), leaf.dtype), self.blank)
        inputs, weight = {**blank, **rows.inputs}, np.ones(1, np.float32)
        return Table(rows._replace(inputs=inputs, weight=weight), self.views)


def ordered(
    recipe: Recipe, variables: Variables, subset: Subset, read: Read, fingerprint: str
) -> Order:
    """The table of a split; nothing is computed yet. `fingerprint` is that of the data and of how
    pictures are brought to the canvas."""
    size = min(SIZE, len(subset))
    first = next(iter(read(replace(subset, indices=subset.indices[:size]), size)))
    arguments = (variables, _seen(first), np.int32(0))
    traced = compiled(recipe).trace(*arguments)
    lowered, found = traced.lower(), traced.out_info
    needed = jax.tree.leaves(read_by(traced.jaxpr, arguments)[0])
    count = recipe.views * len(subset)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype),
        found,
    )
    blank = jax.eval_shape(recipe.view, *arguments[1:]).inputs

    digest = hashlib.sha256(_about(recipe, subset, fingerprint).encode())
    digest.update(lowered.as_text().encode())
    for leaf, matters in zip(jax.tree.leaves(variables), needed, strict=True):
        if matters:
            digest.update(np.asarray(leaf).tobytes())
    for entry in (subset.indices, *jax.tree.leaves(first)):
        digest.update(np.ascontiguousarray(entry).tobytes())

    def parts() -> Iterator[Batch]:
        program = lowered.compile()
        for view in range(recipe.views):
            for batch in read(subset, size):
                real = slice(int(np.count_nonzero(batch.weight)))  # padding comes last
                found = program(variables, _seen(batch), np.int32(view))
                yield jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[real], found)

    return Order(digest.hexdigest()[:32], like, blank, recipe.views, parts)


def _seen(batch: Batch) -> Batch:
    """A batch without its weight, of which nothing is kept."""
    return batch._replace(weight=())


def _about(recipe: Recipe, subset: Subset, fingerprint: str) -> str:
    """What decides the numbers and stands neither in the program nor in the data."""
    device = jax.devices()[0]
    drawn = (recipe.views, recipe.seed) if recipe.augmentations else ()
    where = (jax.__version__, jaxlib.version.__version__, device.platform, device.device_kind)
    return repr((*where, fingerprint, subset.name, recipe.pictures, drawn))
