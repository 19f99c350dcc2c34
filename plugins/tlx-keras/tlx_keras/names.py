"""How Keras' own weight files speak of a wrapped model: literally, variable by variable.

The names are `layer/variable`, or `layer/number` where a file does not say more. The layout is
the one that the network here has, and so are padding and epsilon: it is the same network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tlx.contracts.dialect import Conventions, Dialect, Row
from tlx_keras.structure import Structure

KERAS = Conventions("HWIO", "after", 1e-3, 0.99)
"""Of the files and of the network alike, so no number changes."""


def keras_names(built: Structure) -> Dialect:
    """The dialect `keras` of a model: its variables, and a classifier called `predictions`."""
    rows: list[Row] = []
    seen: Counter[str] = Counter()
    # Parameters first: in this order Keras numbers the variables of a layer.
    for part, variables in (("params", built.params), ("state", built.state)):
        for path, variable in variables.items():
            layer = path.rpartition("/")[0]
            names = _names(path, variable, seen[layer])
            seen[layer] += 1
            rows += [Row(name, f"{part}/backbone/{path}") for name in names]
    rows += [
        Row("predictions/kernel", "params/head/kernel"),
        Row("predictions/bias", "params/head/bias"),
    ]
    return Dialect("keras", tuple(rows), KERAS, KERAS, ignored=())


def _names(path: str, variable: Any, number: int) -> Iterator[str]:
    """What a file may call a variable, with and without the model's own name before it."""
    for whole in dict.fromkeys((path, variable.path)):
        layer, _, name = whole.rpartition("/")
        yield whole
        yield f"{layer}/{number}"
        # Of Keras 2, for a depthwise convolution.
        if name == "kernel" and len(variable.shape) == 4:
            yield f"{layer}/depthwise_kernel"
