"""The words a divergence may ask for.

A divergence states what it needs as keyword-only parameter names; this closed vocabulary is
all there is. What nobody asks for is not computed. Opens without importing jax.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from tlx.errors import ContractError, did_you_mean, listed

MEANING: dict[str, str] = {
    "params": "backbone parameters of the model being trained",
    "head_params": "head parameters of the model being trained",
    "features": "features of this batch, by name",
    "outputs": "head outputs for this batch",
    "batch": "the batch itself, as it was fed",
    "source_params": "backbone parameters of the source model, as loaded",
    "source_features": "features of the same pictures through the source model",
    "source_outputs": "outputs of the source model with its own head",
    "source_head_outputs": "outputs of the source's head on the current features",
    "domain_features": "features of a batch of the second, unlabelled stream",
    "domain_outputs": "head outputs for a batch of the second stream",
    "own": "the divergence's own parameters (it has an `init`)",
    "own_state": "the divergence's own state (it has an `init`)",
    "prepared": "what the divergence's `prepare` returned",
    "recorded": "what the divergence's `record` returned for these examples",
    "rng": "a random key for this step",
    "progress": "0 to 1 over the whole run",
}


PER_EXAMPLE = frozenset(
    {
        "batch",
        "features",
        "outputs",
        "prepared",
        "source_features",
        "source_outputs",
        "source_head_outputs",
    }
)
"""What `record` may ask for: words whose values belong to single examples, and `prepared`."""


def asked(divergence: Callable[..., Any], name: str | None = None) -> frozenset[str]:
    """The words that a divergence asks for.

    Raises ContractError for an unknown word, `*args`, `**kwargs`, a default or a parameter that
    could be passed by position (a bare function's plain parameters count as keyword-only)."""
    name = name or getattr(divergence, "__name__", type(divergence).__name__)
    words = []
    for p in inspect.signature(divergence).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            star = "*" if p.kind is p.VAR_POSITIONAL else "**"
            raise ContractError(
                f"Divergence {name!r} takes {star}{p.name}; name each word it needs instead. "
                f"Words: {listed(MEANING)}."
            )
        if p.name not in MEANING:
            raise ContractError(
                f"Divergence {name!r} asks for {p.name!r}, which a step does not have."
                f"{did_you_mean(p.name, MEANING)} Words: {listed(MEANING)}."
            )
        if p.default is not p.empty:
            raise ContractError(
                f"Divergence {name!r} gives {p.name!r} a default; a word is always there. "
                f"Make an option a field of the class or a parameter of its factory."
            )
        words.append(p.name)
    return frozenset(words)


def takes_words(thing: Any) -> bool:
    """Whether a function is itself a divergence (some plain parameter is a word), rather than a
    factory that returns one."""
    return inspect.isfunction(thing) and any(
        p.name in MEANING and p.default is p.empty
        for p in inspect.signature(thing).parameters.values()
    )
