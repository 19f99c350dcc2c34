"""Towers as a run file names them: each a backbone of its own, with its options.

[backbone]
name = "towers"
towers.image = "resnet20"
towers.row = { name = "mlp", width = 64 }
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx import registry
from tlx.backbones.towers import Towers
from tlx.errors import ConfigError


def towers(towers: dict[str, Any]) -> Towers:
    """Several backbones as one, each for an input of its own.

    Args:
        towers: a backbone for each port: its name, or a table of its name and its options. A
            frozen prefix takes them in this order.
    """
    return Towers(tuple((port, _built(port, said)) for port, said in towers.items()))


def _built(port: str, said: Any) -> Any:
    about = {"name": said} if isinstance(said, str) else said
    if not isinstance(about, Mapping) or not isinstance(about.get("name"), str):
        raise ConfigError(
            f"backbone.towers.{port} is {said!r}; it has to be the name of a backbone, or a table "
            f'like {{ name = "resnet20" }} with its options.'
        )
    options = {key: value for key, value in about.items() if key != "name"}
    return registry.build("backbones", about["name"], options, where=f"backbone.towers.{port}")


def _sample(folder: Path) -> dict[str, Any]:
    """Two small networks, for the conformance kit."""
    toy = f"{Path(__file__).parents[1] / 'testing' / 'toys.py'}:ToyBackbone"
    return {"towers": {"left": toy, "right": {"name": toy, "width": 2}}}


towers.sample = _sample  # pyright: ignore[reportFunctionMemberAccess]  functions declare none
