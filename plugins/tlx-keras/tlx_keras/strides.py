"""The usual features of a convolutional network: the last map before each drop of resolution.

Only a map through which everything flows is taken: it stands for all that the network knows at
that resolution, and the network can be cut there.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2
from typing import Any

from tlx_keras.on_jax import keras


def last_of_each_stride(model: Any) -> tuple[str, ...]:
    """Names of operations of a Functional model, shallow to deep, one per stride 1, 2, 4, ...

    A stride is rounded to a power of two, since unpadded convolutions make maps a little smaller.
    What only pads is none."""
    height = model.inputs[0].shape[1]
    last: dict[int, str] = {}
    for operation in narrow(model):
        shape = operation.output.shape
        if len(shape) == 4 and not isinstance(operation, keras.layers.ZeroPadding2D):
            last[round(log2(height / shape[1]))] = operation.name
    return tuple(last[stride] for stride in sorted(last))


def narrow(model: Any) -> Iterator[Any]:
    """The operations of a Functional model (layers, and sums between them), from the first
    weights on, through whose one output everything flows."""
    operations = model.operations
    made_by = {
        id(tensor): number
        for number, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    last_read = list(range(len(operations)))
    for number, operation in enumerate(operations):
        for tensor in keras.tree.flatten(operation.input):
            last_read[made_by[id(tensor)]] = number
    waiting, started = 0, False
    for number, operation in enumerate(operations):
        weighs = isinstance(operation, keras.Layer) and bool(operation.trainable_weights)
        started = started or weighs
        # Nothing that was computed before is read again after this one.
        if started and waiting <= number:
            yield operation
        waiting = max(waiting, last_read[number])
