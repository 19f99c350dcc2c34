"""The words a score may ask for: what can be known of a source without training it.

A score says how promising a source model is for a target, higher being better. It states what it
needs as keyword-only parameter names; this closed vocabulary is all there is, and what nobody asks
for is not computed. Opens without importing jax or numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlx.contracts import asking

MEANING: dict[str, str] = {
    "features": "(N,D) float64: the source's last feature of the target's pictures, pooled",
    "labels": "(N,) int64 in 0..classes-1: the target's labels of these pictures",
    "classes": "how many classes the target has",
    "source_outputs": "(N,Z) float64: probabilities that the source's own head gives",
    "task_embedding": "(F,) float64: mean Fisher information of each filter, for the target's task",
    "source_task_embedding": "(F,) float64: the same for the task of the source's own head",
    "parameters": "how many numbers the source's backbone has",
    "source_accuracy": "the source's accuracy on its own test data, 0..1",
    "seed": "an integer for whatever a score draws",
}

OF_EXAMPLES = frozenset({"features", "labels", "source_outputs"})
"""Words that have an entry for each example."""


def asked(score: Callable[..., Any], name: str | None = None) -> frozenset[str]:
    """The words that a score asks for. Raises ContractError as `tlx.contracts.asking` does."""
    name = name or getattr(score, "__name__", type(score).__name__)
    return asking.asked(score, MEANING, f"Score {name!r}", "a ranking")
