"""How a module is told its mode: names and values per mode.

For nnx they are attributes of its submodules, for linen arguments of the call. A mode without an
entry is one that the module cannot tell apart, and it does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tlx.errors import ContractError, listed
from tlx.types import Mode

Switches: TypeAlias = tuple[tuple[Mode, tuple[tuple[str, Any], ...]], ...]
"""A mapping of mappings as pairs, so that a backbone that holds it hashes."""


def switches(modes: Mapping[Mode, Mapping[str, Any]]) -> Switches:
    """The pairs of a mapping from modes to names and values."""
    return tuple((mode, tuple(sorted(values.items()))) for mode, values in modes.items())


def switched(pairs: Switches, mode: Mode) -> dict[str, Any]:
    """Names and values for `mode`. Raises ContractError where the module does not have it."""
    modes = dict(pairs)
    if mode not in modes:
        raise ContractError(
            f"The backbone cannot run in mode {mode!r}; it has {listed(sorted(modes))}."
        )
    return dict(modes[mode])
