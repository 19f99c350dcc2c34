"""The arms of an audit: the same run from random weights and in each usual way of transfer.

Everything that is not the way of transfer stays as the run file says, data and length included.
Every arm may try equally many learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from tlx.config import Part, RunConfig
from tlx.errors import ConfigError

SCRATCH, FROZEN, TUNED = "scratch", "feature_transfer", "finetune"
FEW = 3
"""Seeds, of which a test can hardly make anything."""
APART = 10**0.5
"""The factor between neighbouring learning rates."""

Labels: TypeAlias = int | Literal["all"] | None
"""Labelled examples of each class; None for what the run file says."""


def refuse(config: RunConfig) -> None:
    """Raise ConfigError for a run that has no transfer to audit, or more than one."""
    why = ""
    if config.stage or config.variant:
        why = (
            "has stages or variants; an audit makes its own. Remove them, and name the folder of a "
            "finished stage as the weights"
        )
    elif config.weights is None:
        why = "starts from random weights, so there is no transfer to audit. Give it weights"
    elif config.head is None:
        why = "has no head, so there is nothing to test. Audit the run that uses its features"
    elif config.domain is not None:
        why = "reads a second, unlabelled stream, which no arm from random weights has an equal of"
    elif config.mesh is not None and config.mesh.hosts:
        why = "runs on several hosts; an audit runs on one. Remove mesh.hosts"
    if why:
        raise ConfigError(f"The run {config.name!r} {why}.")


def arms(config: RunConfig) -> dict[str, RunConfig]:
    """Name -> run: from random weights, feature transfer, fine-tuning, fine-tuning with the run's
    divergences where it has some, and the run as it is where that is none of these."""
    plain = replace(config, divergence=(), sources={})
    found = {
        SCRATCH: replace(plain, weights=None, strategy=Part(TUNED)),
        FROZEN: _frozen(config, plain),
        TUNED: replace(plain, strategy=_own(config, TUNED)),
    }
    terms = "-".join(term.key for term in config.divergence)
    way = config.strategy.name
    if terms:
        found[f"{TUNED}-{terms}"] = replace(config, strategy=_own(config, TUNED))
    if way not in (FROZEN, TUNED):
        name = "-".join(filter(None, (way, terms))).replace("/", "-").replace(":", "-")
        found[name] = config
    return found


def _frozen(config: RunConfig, plain: RunConfig) -> RunConfig:
    """Feature transfer with the exact head, which has no learning rate to miss and is found on
    pictures as they are; the run's own where that is what it is, and says how."""
    if config.strategy.name == FROZEN and config.strategy.options:
        return plain
    data = replace(plain.data, sampling="natural")
    exact = Part(FROZEN, {"solver": "newton"})
    return replace(plain, strategy=exact, augmentation=(), data=data)


def solved(arm: RunConfig) -> bool:
    """Whether an arm has no learning rate to choose."""
    return (arm.strategy.name, arm.strategy.options.get("solver")) == (FROZEN, "newton")


def warned(seeds: int) -> str:
    """What so few seeds can decide, said before they are trained; '' where that is enough."""
    if seeds > FEW:
        return ""
    from scipy.special import stdtrit  # heavy

    wide = float(stdtrit(seeds - 1, 0.975))
    return (
        f"With {seeds} seeds the 95 % interval of a difference reaches {wide:.1f} standard errors "
        f"to either side (with 5 seeds 2.8), so this audit can hardly decide anything. --seeds 5."
    )


def _own(config: RunConfig, name: str) -> Part:
    """A strategy with the run's options for it, or without any."""
    return config.strategy if config.strategy.name == name else Part(name)


def rates(config: RunConfig, count: int) -> tuple[float, ...]:
    """So many learning rates: the run's own, then a step below it and above it in turn."""
    own = config.optimizer.learning_rate
    steps = [(-1) ** n * ((n + 1) // 2) for n in range(count)]
    return tuple(float(f"{own * APART**step:.3g}") for step in steps)


def labels(text: str) -> tuple[Labels, ...]:
    """`10,50,all` as counts, the fewest first. Raises ConfigError."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word == "all" or (word.isdecimal() and int(word)) for word in words):
        raise ConfigError(f"--labels {text!r} should look like 10,50,all: labels of each class.")
    counts = sorted({int(word) for word in words if word != "all"})
    return (*counts, "all") if "all" in words else tuple(counts)


def with_labels(config: RunConfig, count: Labels) -> RunConfig:
    """The run with so many labelled training examples of each class: `shots` where it has shots,
    else at most so many."""
    if count is None:
        return config
    few = None if count == "all" else count
    if config.data.shots is not None and few is not None:
        return replace(config, data=replace(config.data, shots=few))
    return replace(config, data=replace(config.data, shots=None, limit=few))


def folder(out: Path, count: Labels) -> Path:
    """Where the arms with so many labels lie in an audit's folder."""
    return out if count is None else out / f"labels-{count}"


def with_seed(config: RunConfig, number: int, resplit: bool) -> RunConfig:
    """The `number`th repetition: another head, another order of batches and, with `resplit`, other
    labelled examples."""
    data = config.data
    if resplit:
        data = replace(data, split_seed=(data.split_seed + number) % 2**32)
    return replace(config, seed=(config.seed + number) % 2**32, data=data)


def check_counts(seeds: int, rates: int, labels: Sequence[Labels]) -> None:
    """Raise ConfigError for numbers that make no audit."""
    if seeds < 2:
        raise ConfigError(
            f"--seeds is a count of at least 2, not {seeds}: one seed cannot tell a transfer from "
            f"an accident."
        )
    if rates < 1:
        raise ConfigError(f"--rates is a count of at least 1, not {rates}.")
    if len(set(labels)) != len(labels):
        raise ConfigError("--labels names a count twice.")
