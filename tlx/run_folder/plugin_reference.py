"""The name by which a thing that a plugin made is found again, for what a folder keeps of it."""

from __future__ import annotations

import inspect
from typing import Any

from tlx import registry
from tlx.errors import PluginError


def reference_of(kind: str, thing: Any) -> str:
    """The reference that finds the class of a thing: that of the plugin which it is, or
    `file.py:Object`. Raises PluginError for a class that is neither."""
    made_by = type(thing)
    value = f"{made_by.__module__}:{made_by.__qualname__}"
    those = [plugin for plugin in registry.find(kind) if plugin.value == value]
    if those:
        alone = sum(plugin.name == those[0].name for plugin in registry.find(kind)) == 1
        return those[0].name if alone else those[0].reference
    file = inspect.getsourcefile(made_by)
    if file and "<locals>" not in made_by.__qualname__:
        return f"{file}:{made_by.__qualname__}"
    raise PluginError(
        f"The {registry.SINGULAR[kind]} {made_by.__qualname__} can be found by no name. Let it be "
        f"a class at the top of a file, or a plugin of its own."
    )
