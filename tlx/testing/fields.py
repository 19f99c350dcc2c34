"""What every kind of field must do: read a value the same way twice, and say what is none.

Values come from the field's own `samples` (`tlx.contracts.field.Sampled`); what has none is held to
its form alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from tlx.contracts.field import Decodes, Field, Fingerprinted, Sampled, Shown
from tlx.data.collate import stack_values
from tlx.errors import DataError
from tlx.testing.claims import NotApplicable, claim, claim_value, fail

COUNT = 6


@final
class Subject:
    """A field under test, with a few of its values."""

    def __init__(self, make: Callable[[], Field], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Field:
        """The field."""
        return self.make()

    @cached_property
    def values(self) -> Sequence[Any]:
        """Values of its own."""
        if not isinstance(self.thing, Sampled):
            raise NotApplicable("It has no `samples`.")
        return self.thing.samples(np.random.default_rng(0), COUNT)

    def read(self) -> list[Any]:
        """The values, read."""
        return [self.thing.read(raw, "A sample") for raw in self.values]


def check_value(subject: Subject) -> None:
    """Equal configuration, equal field, and it hashes."""
    claim_value(subject.make, "A field")


def check_kind(subject: Subject) -> None:
    """`kind` is text, by which ports are bound."""
    kind = subject.thing.kind
    claim(isinstance(kind, str) and kind, f"`kind` is {kind!r}, and has to be text.")


def check_reading(subject: Subject) -> None:
    """A value that is read reads the same again, so that nothing is lost on the way."""
    for value in subject.read():
        again = subject.thing.read(value, "A value that was read")
        claim(_same(value, again), f"`read` of {value!r}, read before, gives {again!r}.")


def check_refusals(subject: Subject) -> None:
    """What is no value of its kind is a DataError that calls it by its name."""
    try:
        subject.thing.read(_NoValue(), "THE NAME")
    except DataError as error:
        claim("THE NAME" in str(error), f"`read` refuses without the name it was given: {error}")
    except Exception as error:
        fail(f"`read` of what is no value raises {type(error).__name__}, not a DataError.")
    else:
        raise NotApplicable("It reads anything.")


def check_encoding(subject: Subject) -> None:
    """Values are encoded in one shape, as arrays that can be stacked, the same each time."""
    thing, values = subject.thing, subject.read()
    try:
        encoded = [thing.encode(value, "A value") for value in values]
    except DataError as error:
        raise NotApplicable(f"It is no target: {error}") from error
    stacked = stack_values(encoded, "The samples")
    leaves = jax.tree.leaves(stacked)
    claim(leaves, "`encode` gives no array.")
    for leaf in leaves:
        claim(leaf.dtype.kind in "biuf", f"`encode` gives {leaf.dtype}, which no device holds.")
    again = stack_values([thing.encode(value, "A value") for value in values], "The samples")
    claim(all(map(np.array_equal, leaves, jax.tree.leaves(again))), "`encode` differs each time.")
    if isinstance(thing, Decodes):
        thing.decode(encoded[0])


def check_showing(subject: Subject) -> None:
    """A value is shown as pixels (H,W,3) uint8 or as a text."""
    if not isinstance(subject.thing, Shown):
        raise NotApplicable("It shows nothing.")
    for value in subject.read():
        shown = subject.thing.show(value)
        pixels = getattr(shown, "dtype", None) == np.uint8 and np.ndim(shown) == 3
        claim(pixels or isinstance(shown, str), f"`show` gives {type(shown).__name__}.")


def check_fingerprints(subject: Subject) -> None:
    """The same value has the same digest, another one another."""
    thing = subject.thing
    if not isinstance(thing, Fingerprinted):
        raise NotApplicable("Its values are not told apart.")
    values = subject.read()
    digests = [thing.fingerprint(value).digest for value in values]
    again = [thing.fingerprint(value).digest for value in subject.read()]
    claim(digests == again, "`fingerprint` gives the same value another digest.")
    claim(len(set(digests)) > 1, "`fingerprint` gives all values the same digest.")
    prints = [thing.fingerprint(value) for value in values]
    for first, second in thing.nearly_same(prints, prints):
        claim(0 <= first < COUNT and 0 <= second < COUNT, "`nearly_same` names no position.")


class _NoValue:
    """What is no value of any kind."""


def _same(one: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(leaves) == len(others) and all(map(np.array_equal, leaves, others))
