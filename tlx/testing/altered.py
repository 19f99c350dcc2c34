"""A thing with some members replaced: how a test makes a sound toy into a broken one."""

from __future__ import annotations

from typing import Any, final


@final
class Altered:
    """Has the members it was given. Two of them are equal, as two equal configurations are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Altered)

    def __hash__(self) -> int:
        return 0


def altered(base: Any, **members: Any) -> Any:
    """`base` with other members. Its own methods still see `base`, not the replacements."""
    thing = Altered()
    public = {name: getattr(base, name) for name in dir(base) if not name.startswith("_")}
    vars(thing).update(public | members)
    return thing


def loose(thing: Any) -> Any:
    """The same members in an object that equals nothing but itself."""
    made = _Loose()
    vars(made).update(vars(thing))
    return made


@final
class _Loose:
    """Compares by identity."""
