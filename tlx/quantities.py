"""The words a divergence may ask for.

A divergence states what it needs as keyword-only parameter names; this closed vocabulary is
all there is. What nobody asks for is not computed. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlx.contracts import asking

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

OF_FEATURES = frozenset(
    {"features", "source_features", "source_outputs", "source_head_outputs", "domain_features"}
)
"""Words that may read a feature which the head does not need."""


def asked(divergence: Callable[..., Any], name: str | None = None) -> frozenset[str]:
    """The words that a divergence asks for. Raises ContractError as `tlx.contracts.asking` does."""
    name = name or getattr(divergence, "__name__", type(divergence).__name__)
    return asking.asked(divergence, MEANING, f"Divergence {name!r}", "a step")
