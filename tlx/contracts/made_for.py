"""What weights that come with a plugin were made for: the backbone, and its options.

The factory of such weights says so itself, and its name begins with the backbone's, so that nothing
else is imported to find it. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

_Factory = TypeVar("_Factory", bound=Callable[..., Any])


class MadeFor(NamedTuple):
    """A `backbone` (`name`, or `distribution/name`), the `options` that it has to be given, and the
    `defaults` of all others that it has: another value of one of them is another network."""

    backbone: str
    options: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def fits(self, options: Mapping[str, Any]) -> bool:
        """Whether a backbone with these options is the one."""
        meant = {**self.defaults, **self.options}
        given = {**self.defaults, **options}
        return given == meant


def made_for(
    backbone: str, options: Mapping[str, Any] | None = None, **defaults: Any
) -> Callable[[_Factory], _Factory]:
    """Mark a factory of a WeightSource as the packaged weights of a backbone. Its entry point is
    called `BACKBONE-WHAT`, such as `resnet20-cifar10`."""

    def marked(factory: _Factory) -> _Factory:
        made = MadeFor(backbone, options or {}, defaults)
        setattr(factory, "made_for", made)  # noqa: B010  # of a function
        return factory

    return marked


def purpose(factory: Any) -> MadeFor | None:
    """What a factory of weights was marked with; None where it reads what a user names."""
    found = getattr(factory, "made_for", None)
    return found if isinstance(found, MadeFor) else None
