"""What every source of weights must do: hand over what a file holds, as it is.

It is pointed at a file with the leaves of `tlx.testing.samples.weights()` (the `sample` of a
plugin writes them in its own format). A source that ships its own weights is excused from what
asks for the sample's. Whether the numbers fit a model is the core's business, not a source's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np

from tlx.contracts.declared import fault_of_inputs
from tlx.contracts.file_facts import classes_of, input_of
from tlx.protocols import WeightSource, Writes
from tlx.testing.claims import NotApplicable, claim, claim_close, claim_same, claim_value
from tlx.testing.samples import FOREIGN, weights
from tlx.types import Tensors


@final
class Subject:
    """A source of weights under test."""

    def __init__(self, make: Callable[[], WeightSource], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> WeightSource:
        """The source."""
        return self.make()

    @cached_property
    def read(self) -> Tensors:
        """What it reads."""
        return self.thing.tensors()


def check_value(subject: Subject) -> None:
    """Equal configuration, equal source."""
    claim_value(subject.make, "A source of weights")


def check_about(subject: Subject) -> None:
    """`input` and `classes`, where it has them, say how the weights were trained, or None."""
    spec, classes = input_of(subject.thing), classes_of(subject.thing)
    fault = "" if spec is None else fault_of_inputs(spec)
    claim(not fault, f"`input`: {fault}.")
    claim(
        classes is None
        or (isinstance(classes, tuple) and all(isinstance(name, str) for name in classes)),
        f"`classes` must be a tuple of names or None; it is {classes!r}.",
    )


def check_tensors(subject: Subject) -> None:
    """`tensors` gives NumPy arrays by name."""
    read = subject.read
    claim(isinstance(read, Tensors), f"`tensors()` gave {type(read).__name__}, not Tensors.")
    for name, array in read.values.items():
        claim(
            isinstance(name, str) and isinstance(array, np.ndarray),
            f"`tensors()` holds {name!r}: {type(array).__name__}; names are strings and values "
            f"NumPy arrays.",
        )


def check_origin(subject: Subject) -> None:
    """`origin` names the file in messages, `sha256` is 64 hexadecimal digits or empty."""
    origin, sha256 = subject.read.origin, subject.read.sha256
    claim(isinstance(origin, str) and origin.strip(), "`origin` does not say what was read.")
    claim(
        sha256 == "" or (len(sha256) == 64 and set(sha256) <= set("0123456789abcdef")),
        f"`sha256` is {sha256!r}; it must be the hexadecimal digest of the file, or empty.",
    )


def check_numbers(subject: Subject) -> None:
    """Every leaf of the sample is there under its own name, and nothing else is. The one that is
    no leaf path may be missing: not every format could hold it."""
    found, wanted = subject.read.values, weights()
    if 2 * len(set(found) & set(wanted)) < len(wanted):
        raise NotApplicable("It holds weights of its own, not the kit's sample.")
    lost, more = set(wanted) - set(found) - {FOREIGN}, set(found) - set(wanted)
    claim(
        not lost and not more,
        f"Of the sample's leaves {sorted(lost)} are missing; {sorted(more)} are new.",
    )
    claim_close(
        dict(found),
        {name: wanted[name] for name in found},
        "The tensors that were read",
        tolerance=1e-6,
    )


def check_same_twice(subject: Subject) -> None:
    """Reading twice gives the same bits and the same digest."""
    again = subject.make().tensors()
    claim_same(dict(again.values), dict(subject.read.values), "The tensors read twice")
    claim(
        (again.origin, again.sha256) == (subject.read.origin, subject.read.sha256),
        "Reading twice gives another origin or digest.",
    )


def check_write(subject: Subject) -> None:
    """What a source writes, it reads: the same names, bits and kinds of numbers."""
    if not isinstance(subject.thing, Writes):
        raise NotApplicable("It does not write.")
    before = {name: np.array(array) for name, array in subject.read.values.items()}
    subject.thing.write(before, {})
    claim_same(dict(subject.make().tensors().values), before, "The tensors written and read again")
