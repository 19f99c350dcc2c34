"""The supervised pass and the plain grouping that most strategies share.

Labelled pictures go through backbone and head; every leaf belongs to the part of the model it
lies in.
"""

from __future__ import annotations

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Phase
from tlx.types import Batch, Constants, Forward, Mode, Params, State


def forward(
    model: Model,
    params: Params,
    state: State,
    batch: Batch,
    constants: Constants,
    *,
    rng: Array,
    mode: Mode,
    progress: Array,
) -> Forward:
    """Raw pictures through backbone and head to the head's loss (B,)."""
    return model.forward(params, state, batch, rng=rng, mode=mode)


def part(path: str) -> str:
    """The part of the model a leaf lies in: 'backbone', 'head', 'strategy' or 'divergence'."""
    return path.split("/", 1)[0]


def head_only(path: str) -> str:
    """As `part`, with the whole backbone frozen."""
    return "frozen" if part(path) == "backbone" else part(path)


def probe(steps: int) -> Phase:
    """Only the head learns; the backbone's statistics stay as they are."""
    return Phase(name="probe", steps=steps, group=head_only, forward=forward, norm="frozen")


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
