"""What a metric reads of a head's predictions, or a sentence that says what it would need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlx.errors import ConfigError, listed


def read_prediction(predictions: Mapping[str, Any], name: str, metric: str) -> Any:
    """`predictions[name]`. Raises ConfigError where the head predicts no such thing."""
    if name not in predictions:
        raise ConfigError(
            f"The metric {metric!r} needs {name!r} of the head's predictions, and this head "
            f"predicts {listed(sorted(predictions))}. Leave the metric out or take another head."
        )
    return predictions[name]
