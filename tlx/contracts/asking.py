"""What a plugin asks for: its keyword-only parameters, out of a closed vocabulary.

A divergence and a score state what they need by naming it. Each vocabulary is a mapping from word
to meaning; reading a signature against it is the same for both. Opens without importing jax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tlx.errors import ContractError, did_you_mean, listed


def asked(
    function: Callable[..., Any], words: Mapping[str, str], who: str, where: str
) -> frozenset[str]:
    """The words that `function` asks for; errors name it `who`, and `where` the words come from.

    Raises ContractError for an unknown word, `*args`, `**kwargs`, a default or a parameter that
    could be passed by position (a bare function's plain parameters count as keyword-only)."""
    found = []
    for p in inspect.signature(function).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            star = "*" if p.kind is p.VAR_POSITIONAL else "**"
            raise ContractError(
                f"{who} takes {star}{p.name}; name each word it needs instead. "
                f"Words: {listed(words)}."
            )
        if p.name not in words:
            raise ContractError(
                f"{who} asks for {p.name!r}, which {where} does not have."
                f"{did_you_mean(p.name, words)} Words: {listed(words)}."
            )
        if p.default is not p.empty:
            raise ContractError(
                f"{who} gives {p.name!r} a default; a word is always there. "
                f"Make an option a field of the class or a parameter of its factory."
            )
        found.append(p.name)
    return frozenset(found)


def takes(thing: Any, words: Mapping[str, str]) -> bool:
    """Whether a function is itself such a plugin (some plain parameter is a word), rather than a
    factory that returns one."""
    return inspect.isfunction(thing) and any(
        p.name in words and p.default is p.empty
        for p in inspect.signature(thing).parameters.values()
    )
