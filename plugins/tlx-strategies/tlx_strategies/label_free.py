"""What strategies share that learn without labels: one phase, for a model without a head.

A head would get no gradient, keep its random values and report an accuracy that means nothing.
"""

from __future__ import annotations

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import ForwardFn, Phase
from tlx_strategies import supervised


def refuse_head(model: Model, strategy: str) -> None:
    """Raise ConfigError for a model with a head, in the name of a strategy."""
    if model.head is not None:
        raise ConfigError(
            f"The strategy {strategy!r} learns without labels, so a head would stay as it is and "
            f'its accuracy would mean nothing. Write head = "none" in the run file.'
        )


def whole(strategy: str, model: Model, steps: int, forward: ForwardFn) -> tuple[Phase, ...]:
    """The one phase, named after the strategy, in which all of a model without a head moves."""
    refuse_head(model, strategy)
    return (Phase(name=strategy, steps=steps, group=supervised.part, forward=forward),)
