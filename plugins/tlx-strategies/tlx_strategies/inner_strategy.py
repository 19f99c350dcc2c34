"""The strategy inside of another that only changes what training left.

Weight averages come after any training, so they take the strategy that trains by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tlx import registry
from tlx.errors import ConfigError
from tlx.protocols import (
    Brings,
    ChangesFeatures,
    ChangesInputs,
    Finishes,
    HasSetup,
    Reparametrises,
    SmallestBatch,
    Strategy,
    WholeBatch,
)

Outer = TypeVar("Outer")
CHANGES = "changes what the network gets or gives, which would be neither tested nor saved"


def inner(of: str, options: Mapping[str, Any] | None, outer: str) -> Strategy:
    """The strategy `of` with its options.

    Raises ConfigError for one that `outer` cannot stand around, and as `tlx.registry.build` does.
    """
    strategy: Strategy = registry.build("strategies", of, options, where="strategy.of_options")
    kinds = {
        Finishes: "has a last step of its own, and one of the two would undo the other",
        Reparametrises: "learns a difference to the backbone, which leaves nothing to average",
        ChangesInputs: CHANGES,
        ChangesFeatures: CHANGES,
        Brings: "brings divergences along, which would be lost: write these into the run file",
    }
    for kind, why in kinds.items():
        if isinstance(strategy, kind):
            raise ConfigError(
                f"strategy.of: {outer!r} cannot follow {of!r}, which {why}. Use 'finetune' or "
                f"another strategy that moves the backbone."
            )
    return strategy


def set_up_inner(outer: Outer, **given: Any) -> Outer:
    """The outer strategy around its `strategy` after the `setup` of that, which gets what is
    `given`; itself where there is nothing to set up."""
    around: Any = outer
    strategy = around.strategy
    found = strategy.setup(**given) if isinstance(strategy, HasSetup) else strategy
    return outer if found is strategy else replace(around, strategy=found)


def needs_whole(strategy: Strategy) -> str:
    """Why the inner strategy has to see a batch whole; '' where it does not."""
    return strategy.whole_batch if isinstance(strategy, WholeBatch) else ""


def needs_examples(strategy: Strategy) -> int:
    """How many examples the inner strategy needs at a time."""
    return strategy.smallest_batch if isinstance(strategy, SmallestBatch) else 1
