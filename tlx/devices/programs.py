"""Compiled programs that the runs of a study share, by what they were made from."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

LIMIT = 8
"""Of more programs those are kept that were used last."""


@final
class Programs:
    """The programs of a study."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def get(self, recipe: Hashable) -> Any | None:
        """The program, if one of the last few was made from the same."""
        if recipe not in self._made:
            return None
        self._made[recipe] = program = self._made.pop(recipe)  # now the youngest
        return program

    def keep(self, recipe: Hashable, program: Any) -> None:
        """For whoever comes next."""
        self._made[recipe] = program
        if len(self._made) > LIMIT:
            del self._made[next(iter(self._made))]
