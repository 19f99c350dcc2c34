"""A task as a vector: how much its answers depend on each filter of a network.

Task2Vec (Achille et al. 2019, arXiv:1902.03545, section 2): the diagonal of the Fisher information
of a probe network's kernels, averaged over each filter. Tasks that need the same filters lie close
to each other, whatever their classes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.backbones.leaves import leaf_of
from tlx.devices.compiled import compiled
from tlx.model import Model
from tlx.trees import flat
from tlx.types import Batch, Features, LeafInfo, Variables


def task_embedding(
    model: Model,
    variables: Variables,
    answer: Callable[[Any, Features, Batch], Array],
    head: Any,
    batches: Iterable[Batch],
    *,
    seed: int,
) -> np.ndarray:
    """(F,) float64: for each filter of each kernel the mean over its numbers and over examples of
    (∂ log p(y|x) / ∂w)², y drawn from what the task's own head answers.

    `answer` gives logits (B,classes) of (`head`, features, batch). In mode 'eval', on examples as
    they are. What is drawn for an example depends on `seed` and its index alone."""
    # One example at a time: gradients of several kernels at once are grouped convolutions, which
    # take a CPU twice as long.
    step = compiled(partial(_squares, model, answer))
    total, count = None, 0
    for batch in batches:
        for row in np.flatnonzero(batch.weight):
            one = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch)
            found = step(variables, head, one, seed)
            total = found if total is None else jax.tree.map(jnp.add, total, found)
            count += 1
    kernels = {}
    for path, leaf in flat(total).items():
        info = leaf_of(model.backbone, path)
        if info.kind == "kernel" and leaf.ndim - len(info.layers) >= 2:
            kernels[path] = _by_filter(np.asarray(leaf, np.float64), info)
    return np.concatenate([kernel.mean(1) / count for kernel in kernels.values()])


def _by_filter(kernel: np.ndarray, info: LeafInfo) -> np.ndarray:
    """(filters, inputs): a filter for every output of every layer; where nobody knows which axes
    count outputs, the last one does."""
    out = -1 if info.out is None else info.out
    axes = (*info.layers, *((out,) if isinstance(out, int) else out))
    front = np.moveaxis(kernel, axes, range(len(axes)))
    return front.reshape(int(np.prod(front.shape[: len(axes)])), -1)


def _squares(
    model: Model,
    answer: Callable[[Any, Features, Batch], Array],
    variables: Variables,
    head: Any,
    one: Batch,
    seed: Array,
) -> Any:
    """The squared gradient of one example, shaped like the backbone."""
    key = jax.random.key(0)  # nothing is random in mode 'eval'

    def drawn(backbone: Any) -> Array:
        numbers = Variables({**variables.params, "backbone": backbone}, variables.state)
        features, _ = model.features(numbers, one, rng=key, mode="eval")
        likely = jax.nn.log_softmax(answer(head, features, one)[0])
        drawing = jax.random.fold_in(jax.random.key(seed), one.index[0])
        return likely[jax.random.categorical(drawing, jax.lax.stop_gradient(likely))]

    return jax.tree.map(jnp.square, jax.grad(drawn)(variables.params["backbone"]))
