"""How many examples a step sees at a time, and whether that is enough.

A batch may be computed in parts, and what compares its examples with each other needs some of them,
or all, at once. The shapes of what is computed at a time are what everything is traced with.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax

from tlx.data.domain import Domain
from tlx.data.splits import Splits
from tlx.errors import ConfigError
from tlx.protocols import Accumulates, SmallestBatch, Step, Strategy, WholeBatch
from tlx.types import Batch


def parts_of(step: Step) -> int:
    """In how many parts a step computes a batch."""
    return step.accumulate if isinstance(step, Accumulates) else 1


def smallest(thing: object) -> int:
    """How many different examples a divergence or a strategy needs at a time."""
    return thing.smallest_batch if isinstance(thing, SmallestBatch) else 1


def shapes(step: Step, batch_size: int, sample: Batch, domain: bool) -> Batch:
    """The shapes of what a step computes at a time, with a second stream if `domain`; `sample` is
    any batch of the first one."""
    size = batch_size // parts_of(step)
    shown = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), sample
    )
    return shown._replace(domain=shown._replace(targets={})) if domain else shown


def in_parts(step: Step, batch_size: int, devices: int, things: Mapping[str, object]) -> None:
    """A batch can be computed in the parts that a step asks for; `things` are divergences and the
    strategy by what a sentence calls them."""
    parts = parts_of(step)
    if parts == 1:
        return
    if batch_size % (parts * devices):
        on = f" on {devices} devices" if devices > 1 else ""
        near = max(1, round(batch_size / (parts * devices))) * parts * devices
        raise ConfigError(
            f"[step] accumulate = {parts} asks for {parts} equal parts{on}, and a batch of "
            f"{batch_size} pictures has none. Set batch_size to a multiple of {parts * devices}, "
            f"such as {near}."
        )
    for name, thing in things.items():
        if isinstance(thing, WholeBatch) and thing.whole_batch:
            raise ConfigError(
                f"[step] accumulate = {parts} computes a batch in parts, and {name} has to see it "
                f"whole: {thing.whole_batch}. Leave accumulate out and lower batch_size, or "
                f"replace {name}."
            )


def too_few(
    step: Step,
    batch_size: int,
    things: Mapping[str, object],
    splits: Splits,
    domain: Domain | None,
) -> None:
    """Whatever compares examples with each other sees enough different ones at a time: of those
    that train, and what a strategy does of those that select and test, too. `things` as for
    `in_parts`."""
    parts = parts_of(step)
    trains = {"training split": len(splits.train)}
    if domain is not None:
        trains["[domain]"] = len(domain.train)
    for name, thing in things.items():
        least, who = smallest(thing), f"{name[0].upper()}{name[1:]}"
        compares = f"{who} compares the examples of a batch with each other and needs {least} or"
        if batch_size // parts < least:
            of = f", which [step] accumulate = {parts} computes in parts" if parts > 1 else ""
            raise ConfigError(
                f"{compares} more of them at a time; batch_size is {batch_size}{of}. Set "
                f"batch_size to {least * parts} or more."
            )
        judges = {"validation split": len(splits.val), "test split": len(splits.test)}
        for split, count in (trains | (judges if isinstance(thing, Strategy) else {})).items():
            if 0 < count < least:
                raise ConfigError(
                    f"{compares} more; the {split} has {count}. Give it more examples."
                )
