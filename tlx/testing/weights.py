"""What every source of weights must do: say what became of every leaf, and change no form.

It is pointed at a file with the leaves of `tlx.testing.samples.weights()` (the `sample` of a
plugin writes them in its own format). The model that is filled lacks one of them, has one that is
not in the file, one of another shape and one of another kind of number. A source that ships its
own weights skips all that it holds, and is excused from what asks for the sample's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax
import numpy as np

from tlx import trees
from tlx.protocols import WeightSource
from tlx.testing.claims import (
    NotApplicable,
    claim,
    claim_alike,
    claim_close,
    claim_same,
    claim_value,
)
from tlx.testing.samples import FOREIGN, nested, weights
from tlx.types import InputSpec, LoadReport, Variables

RESHAPED = "params/head/kernel"
MISSING = "params/head/bias"
COUNTED = "state/backbone/stage1/count"
UNKNOWN = "params/backbone/stage1/conv/bias"
TRANSLATED = "params/backbone/foreign/bias"


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
    def like(self) -> Variables:
        """A model that fits the file except in four leaves."""
        leaves: dict[str, Any] = {name: np.zeros_like(leaf) for name, leaf in weights().items()}
        leaves[RESHAPED] = np.full((4, 5), 7, np.float32)
        leaves[MISSING] = np.full(5, 7, np.float32)
        leaves[COUNTED] = np.full(2, 7, np.int32)
        leaves[TRANSLATED] = leaves.pop(FOREIGN)
        del leaves[UNKNOWN]
        tree = nested(leaves)
        return jax.tree.map(jax.numpy.asarray, Variables(tree["params"], tree["state"]))

    @cached_property
    def loaded(self) -> tuple[Variables, LoadReport]:
        """What loading gives."""
        return self.thing.load(self.like, None)

    def needs_sample(self) -> None:
        """Excuse a source whose report shows that it holds other leaves than the sample."""
        report = self.loaded[1]
        names = {name for name, _ in report.skipped}
        if names and not report.loaded and not names & set(self.taken):
            raise NotApplicable("It holds weights of its own, not the kit's sample.")

    @cached_property
    def taken(self) -> dict[str, np.ndarray]:
        """The leaves that fit."""
        skipped = (RESHAPED, COUNTED, UNKNOWN, FOREIGN)
        return {name: leaf for name, leaf in weights().items() if name not in skipped}


def check_value(subject: Subject) -> None:
    """Equal configuration, equal source."""
    claim_value(subject.make, "A source of weights")


def check_about(subject: Subject) -> None:
    """`input` and `classes` say how the weights were trained, or None."""
    spec, classes = subject.thing.input, subject.thing.classes
    claim(spec is None or isinstance(spec, InputSpec), f"`input` is {spec!r}, not an InputSpec.")
    claim(
        classes is None
        or (isinstance(classes, tuple) and all(isinstance(name, str) for name in classes)),
        f"`classes` must be a tuple of names or None; it is {classes!r}.",
    )


def check_form(subject: Subject) -> None:
    """The variables keep their tree, shapes and dtypes."""
    claim_alike(tuple(subject.loaded[0]), tuple(subject.like), "The variables after loading")


def check_numbers(subject: Subject) -> None:
    """Leaves that fit get the numbers of the file."""
    subject.needs_sample()
    found = trees.flat(subject.loaded[0]._asdict())
    seen = {name: found[name] for name in subject.taken}
    claim_close(seen, subject.taken, "The loaded leaves", tolerance=1e-6)


def check_kept(subject: Subject) -> None:
    """Leaves that are missing, of another shape or kind of number keep their value."""
    found, before = (trees.flat(v._asdict()) for v in (subject.loaded[0], subject.like))
    for name in (RESHAPED, MISSING, COUNTED, TRANSLATED):
        claim_same(found[name], before[name], f"A leaf that does not fit ({name})")


def check_report_covers_leaves(subject: Subject) -> None:
    """Every leaf of the model is reported once: loaded, or initialised for a reason."""
    report = subject.loaded[1]
    seen = sorted([*report.loaded, *(path for path, _ in report.initialised)])
    wanted = sorted(trees.flat(subject.like._asdict()))
    claim(
        seen == wanted,
        f"The report must have each leaf of the model once. Missing: "
        f"{sorted(set(wanted) - set(seen))}; too many: "
        f"{sorted(set(seen) - set(wanted)) or [p for p in set(seen) if seen.count(p) > 1]}.",
    )
    subject.needs_sample()
    claim(
        sorted(report.loaded) == sorted(subject.taken),
        f"Reported as loaded are {sorted(report.loaded)}; those that fit are "
        f"{sorted(subject.taken)}.",
    )


def check_report_covers_file(subject: Subject) -> None:
    """Every name in the file is loaded or skipped for a reason."""
    subject.needs_sample()
    report = subject.loaded[1]
    seen = {*report.loaded, *(name for name, _ in report.skipped)}
    lost = sorted(set(weights()) - seen - {FOREIGN})
    claim(not lost, f"The report says nothing of {lost}, which are in the file.")


def check_reasons(subject: Subject) -> None:
    """What was not loaded has a reason in words."""
    report = subject.loaded[1]
    for name, reason in (*report.initialised, *report.skipped):
        claim(isinstance(reason, str) and reason.strip(), f"No reason is given for {name!r}.")


def check_names(subject: Subject) -> None:
    """`names` translates what is no leaf path; a name that it does not know is skipped."""
    asked: list[str] = []

    def known(name: str) -> str | None:
        asked.append(name)
        return TRANSLATED if name == FOREIGN else name

    found, report = subject.thing.load(subject.like, known)
    if not asked:
        raise NotApplicable("It never asks `names`: what its files hold are leaf paths.")
    claim(
        TRANSLATED in report.loaded,
        f"`names` says that {FOREIGN!r} is the leaf {TRANSLATED!r}, which was not loaded.",
    )
    seen = trees.flat(found._asdict())[TRANSLATED]
    claim_close(seen, weights()[FOREIGN], f"The leaf {TRANSLATED}", tolerance=1e-6)
    _, report = subject.thing.load(subject.like, lambda n: None if n == FOREIGN else n)
    claim(
        FOREIGN in [name for name, _ in report.skipped] and TRANSLATED not in report.loaded,
        f"`names` knows no leaf for {FOREIGN!r}; the report must have it under `skipped`.",
    )


def check_leaves_model_alone(subject: Subject) -> None:
    """Loading makes new variables and leaves the given ones as they are."""
    like = jax.tree.map(np.array, subject.like)
    before = jax.tree.map(np.copy, like)
    subject.thing.load(like, None)
    claim_same(tuple(like), tuple(before), "The variables that were given to `load`")


def check_same_twice(subject: Subject) -> None:
    """Loading twice gives the same bits and the same report."""
    variables, report = subject.make().load(subject.like, None)
    claim_same(tuple(variables), tuple(subject.loaded[0]), "The variables loaded twice")
    claim(report == subject.loaded[1], "Loading twice gives another report.")
