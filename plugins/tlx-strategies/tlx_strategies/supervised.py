"""The supervised pass and the plain grouping that most strategies share.

Labelled pictures go through backbone and head; every leaf belongs to the part of the model it
lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase, SolveFn
from tlx.types import Batch, Constants, Forward, Mode, NormPolicy, Variables


def forward(
    model: Model,
    variables: Variables,
    batch: Batch,
    constants: Constants,
    *,
    rng: Array,
    mode: Mode,
    progress: Array,
) -> Forward:
    """Raw pictures through backbone and head to the head's loss (B,)."""
    return model.apply(variables, batch, rng=rng, mode=mode)


def part(path: str) -> str:
    """The part of the model a leaf lies in: 'backbone', 'head', 'strategy' or 'divergence'."""
    return path.split("/", 1)[0]


def head_only(path: str) -> str:
    """As `part`, with the whole backbone frozen."""
    return "frozen" if part(path) == "backbone" else part(path)


def training(
    name: str, steps: int, group: Callable[[str], str], lr: Mapping[str, float], norm: NormPolicy
) -> Phase:
    """A phase of the supervised pass."""
    return Phase(name=name, steps=steps, group=group, forward=forward, lr=lr, norm=norm)


def head_alone(path: str) -> str:
    """'head' for its leaves, 'frozen' for all others."""
    return "head" if part(path) == "head" else "frozen"


def probe(steps: int, solve: SolveFn | None = None) -> Phase:
    """Only the head learns; the backbone's statistics stay as they are. With `solve` it is found
    at once, and what belongs to divergences waits."""
    group = head_only if solve is None else head_alone
    return replace(training("probe", steps, group, {}, "frozen"), solve=solve)


def require_head(model: Model, strategy: str) -> None:
    """Raise ConfigError for a model without a head: its loss would be zero and nothing learnt."""
    if model.head is None:
        raise ConfigError(
            f"The strategy {strategy!r} trains on labels and this model has no head. "
            f"Give the run a [head], or choose a self-supervised strategy such as 'masked'."
        )


def positive(option: str, value: float, instead: str) -> None:
    """Raise ConfigError for a learning-rate multiplier that is not above 0."""
    if not value > 0:
        raise ConfigError(
            f"{option} multiplies the learning rate and must be above 0, not {value}. {instead}"
        )


def check_decay(layer_decay: float) -> None:
    """Raise ConfigError for a `layer_decay` that would freeze stages or speed up shallow ones."""
    if not 0 < layer_decay <= 1:
        raise ConfigError(
            f"layer_decay is the learning rate of a stage relative to the one above it, above 0 "
            f"and at most 1, not {layer_decay}. 1 treats all alike, .75 is usual."
        )
