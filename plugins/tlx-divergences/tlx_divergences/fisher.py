"""Fisher information: how much a network's answers change with each of its parameters.

The diagonal is the mean square of the score ∂ log p(y|x) / ∂w, a gradient for every example, and
it tells which weights the source needs and which are free. Whose labels y are decides what it is:
drawn from the network's own answers it is the Fisher information, with the labels of the data it
is the so-called empirical Fisher, which is no estimate of it (Kunstner et al., arXiv:1905.12558).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.errors import ConfigError, DataError, did_you_mean, listed
from tlx.model import Model
from tlx.types import Batch, Network, Params, PyTree, Variables

Labels: TypeAlias = Literal["model", "exact", "empirical"]


@final
@dataclass(frozen=True)
class Fisher:
    """The diagonal F_i = mean over examples of E_y (∂ log p(y|x) / ∂w_i)² of a classifier's
    backbone, in mode 'eval', on pictures as the target has them.

    It costs a backward pass per example and label. `chunk` gradients lie in memory at once.

    Args:
        labels: `model` draws y from the network's own softmax (for one example the same in any
            order and batch); `exact` sums over all classes by their probability, a pass for each;
            `empirical` takes the labels of the data.
        samples: how many labels `model` draws per example.
        chunk: examples whose gradients are taken together. On a CPU more than a few are slower:
            gradients of a kernel per example are a grouped convolution.
        normalised: divide by the mean over all parameters, so that a penalty weighted by F has
            about the size of the unweighted one.
    """

    labels: Labels = "model"
    samples: int = 1
    chunk: int = 4
    normalised: bool = False

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        known = get_args(Labels)
        if self.labels not in known:
            raise ConfigError(
                f"labels says whose labels the Fisher information takes, and {self.labels!r} is "
                f"nobody.{did_you_mean(self.labels, known)} Known: {listed(known)}."
            )
        for name in ("samples", "chunk"):
            if not getattr(self, name) >= 1:
                raise ConfigError(f"{name} must be 1 or more, not {getattr(self, name)}.")

    def prepare(
        self,
        *,
        model: Model,
        variables: Variables,
        source: Network | None,
        batches: Iterable[Batch],
        rng: Array,
    ) -> Params:
        """F of the source, shaped like its backbone's parameters, float32 or better, over the
        examples with a weight above 0.

        Raises ConfigError for a source whose head does not answer with one class, for labels
        'empirical' over another number of classes than the model's, and DataError where there is
        no example or F holds nothing."""
        if source is None or source.model.head is None:
            raise ConfigError(
                "The Fisher information is that of the source's answers, and here is no source "
                "with a head of its own. Use l2_sp, or weights that hold their head."
            )
        numbers = source.variables
        total = jax.tree.map(
            lambda w: jnp.zeros(w.shape, jnp.promote_types(w.dtype, "float32")),
            numbers.params["backbone"],
        )
        count = 0.0
        for batch in batches:
            for part in _parts(batch, self.chunk):
                seen = part._replace(targets={})
                if count == 0:
                    self._check(Network(model, variables), source, seen)
                log_p = _log_probabilities(source.model, numbers, seen)
                for label, share in self._labelled(part, log_p, rng):
                    weight = part.weight * share
                    total = _added(source.model, total, numbers, seen, label, weight)
                count += float(part.weight.sum())
        if count == 0:
            raise DataError("The Fisher information is a mean over examples, and there are none.")
        return _scaled(jax.tree.map(lambda leaf: leaf / count, total), self.normalised)

    def _labelled(
        self, part: Batch, log_p: Array, rng: Array
    ) -> Iterator[tuple[Array, Array | float]]:
        """Labels (B,) for the examples, each time with what they count."""
        if self.labels == "empirical":
            yield part.targets["label"], 1.0
        elif self.labels == "exact":
            for label in range(log_p.shape[-1]):
                yield jnp.full(log_p.shape[:1], label), jnp.exp(log_p[:, label])
        else:
            keys = jax.vmap(partial(jax.random.fold_in, rng))(part.index)
            drawn = jax.vmap(lambda key, p: jax.random.categorical(key, p, shape=(self.samples,)))
            for label in drawn(keys, log_p).T:
                yield label, 1 / self.samples

    def _check(self, here: Network, source: Network, batch: Batch) -> None:
        there = _classes(source, batch)
        if there is None:
            raise ConfigError(
                "The Fisher information is that of one class out of several for each picture, and "
                "the source's head answers something else. Use l2_sp, or weights of a classifier."
            )
        if self.labels == "empirical" and _classes(here, batch) != there:
            raise ConfigError(
                f"labels = 'empirical' holds the labels of the data against the source's answers, "
                f"and the source's {there} classes are others. Use labels = 'model'."
            )


def _outputs(model: Model, numbers: Variables, batch: Batch) -> Any:
    key = jax.random.key(0)  # nothing is random in mode 'eval'
    return model.apply(numbers, batch, rng=key, mode="eval").outputs


@partial(jax.jit, static_argnums=0)
def _log_probabilities(model: Model, numbers: Variables, batch: Batch) -> Array:
    return jax.nn.log_softmax(_outputs(model, numbers, batch))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _added(
    model: Model, total: PyTree, numbers: Variables, batch: Batch, label: Array, weight: Array
) -> PyTree:
    """`total` plus the weighted squares of the scores of these examples."""

    def log_probability(backbone: Params, one: Batch, label: Array) -> Array:
        inside = Variables({**numbers.params, "backbone": backbone}, numbers.state)
        alone = jax.tree.map(lambda leaf: leaf[None], one)
        return _log_probabilities(model, inside, alone)[0, label]

    slope = jax.vmap(jax.grad(log_probability), (None, 0, 0))
    return jax.tree.map(
        lambda sofar, score: (
            sofar + jnp.tensordot(weight, jnp.square(score.astype(sofar.dtype)), 1)
        ),
        total,
        slope(numbers.params["backbone"], batch, label),
    )


def _parts(batch: Batch, chunk: int) -> Iterator[Batch]:
    """The examples that count, `chunk` at a time; the last is filled up with weight 0."""
    rows = np.flatnonzero(np.asarray(batch.weight))
    chunk = min(chunk, len(batch.weight))
    for start in range(0, len(rows), chunk):
        mine = rows[start : start + chunk]
        every = np.resize(mine, chunk)
        part = jax.tree.map(lambda leaf, every=every: jnp.asarray(leaf)[every], batch)
        yield part._replace(weight=part.weight * (np.arange(chunk) < len(mine)))


def _classes(network: Network, batch: Batch) -> int | None:
    """How many classes a network chooses one from, None if it answers something else."""

    def answered(numbers: Variables, batch: Batch) -> tuple[Any, Any]:
        outputs = _outputs(network.model, numbers, batch)
        head = network.model.head
        return outputs, head.predict(outputs).get("class") if head else None

    outputs, found = jax.eval_shape(answered, network.variables, batch)
    if found is None or found.ndim != 1 or getattr(outputs, "ndim", 0) != 2:
        return None
    return outputs.shape[1]


def _scaled(fisher: Params, normalised: bool) -> Params:
    leaves = jax.tree.leaves(fisher)
    mean = sum(float(leaf.sum()) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    if not 0 < mean < np.inf:
        raise DataError(
            f"The Fisher information of the source is {mean:g} on average and can hold nothing: "
            f"its answers to these pictures are certain or not finite. Use l2_sp."
        )
    return jax.tree.map(lambda leaf: leaf / mean, fisher) if normalised else fisher
