"""Short names for lists of augmentations that are used together: light, medium and strong.

A preset in a run file stands for its list, which the resolved run file then has written out. The
names are those of plugins; none is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PRESETS: Mapping[str, tuple[str, ...]] = {
    "light": ("flip", "crop"),
    "medium": ("resized_crop", "flip", "color_jitter"),
    "strong": ("resized_crop", "flip", "rand_augment", "random_erasing", "mixup"),
}
"""Augmentations with the options that they have by default, in order."""


def written_out(entries: Iterable[Any]) -> list[Any]:
    """Entries of `[[augmentation]]`, tables with a `name`, with each preset's list in its place.

    One with options beside its name is left; `misused` says that it takes none."""
    long: list[Any] = []
    for entry in entries:
        bare = isinstance(entry, Mapping) and entry.keys() == {"name"}
        preset = PRESETS.get(str(entry["name"])) if bare else None
        long += [entry] if preset is None else [{"name": name} for name in preset]
    return long


def misused(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with presets that `written_out` has left."""
    return [
        f"augmentation.{number}: {name!r} stands for {list(PRESETS[name])} and takes no options; "
        f"list these, with theirs."
        for number, entry in enumerate(entries)
        if isinstance(name := entry.get("name"), str) and name in PRESETS
    ]
