"""How examples look: pixels or a text, of the field that a network is given first."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tlx.contracts.calls import called
from tlx.contracts.field import Shown
from tlx.contracts.input import Port, Ports
from tlx.data.splits import Subset
from tlx.types import DataInfo


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
    name = port.fields[0]
    value, field = subset[row][name], info.fields[name]
    if isinstance(port.input, Shown) and len(port.fields) == 1:
        with called(port.input, "input", "show"):
            encoded = port.input.encode(value, name=f"The {name} of {subset.called(row)}")
            return port.input.show(encoded)
    if not isinstance(field, Shown):
        return str(value)
    with called(field, "field", "show"):
        return field.show(value)
