"""What a source of weights says of its file, each where it says it.

A format that knows nothing but names and numbers has nothing to say, so each fact is a contract of
its own. Opens without importing jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlx.contracts.input import Inputs
from tlx.contracts.outside import Architected, KnowsClasses, KnowsHead, KnowsInput, WeightSource


def input_of(source: WeightSource) -> Inputs | None:
    """The preprocessing that the weights were trained with; None where nobody says."""
    return source.input if isinstance(source, KnowsInput) else None


def classes_of(source: WeightSource) -> tuple[str, ...] | None:
    """The class names of the head in the file; None where nobody says."""
    return source.classes if isinstance(source, KnowsClasses) else None


def architecture_of(source: WeightSource) -> str:
    """What the file calls its network; empty where nobody says."""
    return source.architecture if isinstance(source, Architected) else ""


def head_of(source: WeightSource | None) -> tuple[str, Mapping[str, Any]] | None:
    """The head that the numbers belong to, with its options; None where nobody says."""
    return source.head if isinstance(source, KnowsHead) else None
