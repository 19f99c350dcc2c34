"""How examples look and what they are called: pixels or a text, pictures or rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tlx.contracts.calls import called
from tlx.contracts.field import Field, Shown
from tlx.contracts.input import Port, Ports
from tlx.data.splits import Subset
from tlx.types import DataInfo

BETWEEN = " · "
"""What stands between the texts of one example."""


def noun_of(info: DataInfo) -> str:
    """What one example is called: by the kind of its inputs, where that is one."""
    kinds = {info.fields[name].kind for name in info.inputs}
    kind = kinds.pop() if len(kinds) == 1 else "example"
    return "picture" if kind == "image" else kind


def show_examples(
    subset: Subset, rows: Iterable[int], ports: Ports, info: DataInfo
) -> list[np.ndarray | str]:
    """Some examples of a subset, each as pixels (H,W,3) uint8 or as a text: as the network is given
    them where its input can show that. Raises DataError for what cannot be read."""
    port = first_shown(ports, info)
    return [_show(subset, int(row), port, info) for row in rows]


def first_shown(ports: Ports, info: DataInfo) -> Port:
    """The port whose field has something to show; the first where none has."""
    shows = (
        port
        for port in ports
        if isinstance(port.input, Shown) or isinstance(info.fields[port.fields[0]], Shown)
    )
    return next(shows, ports[0])


def _show(subset: Subset, row: int, port: Port, info: DataInfo) -> np.ndarray | str:
    example, name = subset[row], port.fields[0]
    if isinstance(port.input, Shown) and len(port.fields) == 1:
        with called(port.input, "input", "show"):
            encoded = port.input.encode(example[name], name=f"The {name} of {subset.called(row)}")
            return port.input.show(encoded)
    looks = [_look(example[name], info.fields[name]) for name in port.fields]
    texts = [look for look in looks if isinstance(look, str)]
    return BETWEEN.join(texts) if len(texts) == len(looks) else looks[0]


def _look(value: Any, field: Field) -> np.ndarray | str:
    if not isinstance(field, Shown):
        return str(value)
    with called(field, "field", "show"):
        return field.show(value)
