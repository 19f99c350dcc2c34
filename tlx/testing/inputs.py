"""What every input must do: encode values in a fixed shape, and prepare what it encodes.

Values come from the field of its kind (`tlx.contracts.field.Sampled`), which has to be installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

import jax
import numpy as np

from tlx import registry
from tlx.contracts.declared import fault_of_inputs
from tlx.contracts.field import Field, Sampled
from tlx.contracts.input import AugmentsValues, FitsInput, HasAssets, Input, SharesEntry
from tlx.contracts.options import plain_options
from tlx.data.collate import stack_values
from tlx.errors import TlxError
from tlx.testing.claims import NotApplicable, claim, claim_finite, claim_leading, claim_value
from tlx.testing.spec_claims import small_input

COUNT = 12


@final
class Subject:
    """An input under test, fitted to a few values of a field of its kind."""

    def __init__(self, make: Callable[[], Input], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Input:
        """The input as it is made, of images on a small canvas."""
        return small_input(self.make())

    @cached_property
    def field(self) -> Field:
        """A field of its kind."""
        for plugin in registry.find("fields"):
            try:
                field: Field = registry.build("fields", plugin.reference)
            except TlxError:
                continue
            if field.kind == self.thing.kind and isinstance(field, Sampled):
                return field
        raise NotApplicable(
            f"No field of the kind {self.thing.kind!r} with a `sample` is installed."
        )

    @cached_property
    def values(self) -> Sequence[Any]:
        """Values of that field, read."""
        field = self.field
        assert isinstance(field, Sampled)
        raw = field.samples(np.random.default_rng(0), COUNT)
        return [field.read(one, "A sample") for one in raw]

    def fit(self, values: Sequence[Any]) -> Input:
        """The input with what it learns of values."""
        if not isinstance(self.thing, FitsInput):
            return self.thing
        return self.thing.fitted([self.field], lambda: ((value,) for value in values))

    @cached_property
    def fitted(self) -> Input:
        """The input with what it learns of the values."""
        return self.fit(self.values)

    def encode(self, input_: Input, values: Sequence[Any]) -> Any:
        """(N,...) of values."""
        encoded = [input_.encode(value, name="A sample") for value in values]
        return stack_values(encoded, "The samples")


def check_value(subject: Subject) -> None:
    """Equal configuration, equal input, and it hashes: it is part of a compiled program's key."""
    claim_value(subject.make, "An input")


def check_form(subject: Subject) -> None:
    """It has what the contract says."""
    claim(not (fault := fault_of_inputs(subject.thing)), f"An input: {fault}.")


def check_encoding(subject: Subject) -> None:
    """Values are encoded in the shapes that `example` says, the same each time."""
    input_, values = subject.fitted, subject.values
    arrays, again = (subject.encode(input_, values) for _ in range(2))
    example, leaves = jax.tree.leaves(input_.example()), jax.tree.leaves(arrays)
    claim(len(example) == len(leaves), "`example` has other entries than what is encoded.")
    for said, leaf in zip(example, leaves, strict=True):
        claim(
            said.shape[1:] == leaf.shape[1:],
            f"`example` says {said.shape}, and what is encoded is {leaf.shape}.",
        )
    claim(all(map(np.array_equal, leaves, jax.tree.leaves(again))), "`encode` differs each time.")


def check_preparing(subject: Subject) -> None:
    """`prepare` runs in jit, gives finite numbers, and row by row what it gives of a batch."""
    input_ = subject.fitted
    arrays = subject.encode(input_, subject.values)
    prepare = jax.jit(input_.prepare)
    x = prepare(arrays)
    claim_leading(x, len(subject.values), "`prepare`")
    claim_finite(x, "`prepare`")
    one = prepare(jax.tree.map(lambda leaf: leaf[:1], arrays))
    for whole, alone in zip(jax.tree.leaves(x), jax.tree.leaves(one), strict=True):
        claim(
            np.allclose(whole[:1], alone, rtol=1e-5, atol=1e-6),
            "`prepare` gives an example other numbers alone than among others.",
        )
    if isinstance(input_, AugmentsValues):
        changed = jax.eval_shape(lambda a: input_.prepare(input_.to_augment(a)), arrays)
        claim(
            jax.tree.map(np.shape, changed) == jax.tree.map(np.shape, x),
            "`prepare` takes the form for augmentations otherwise.",
        )


def check_keeping(subject: Subject) -> None:
    """What it learnt can be written and read again, and is not learnt again."""
    input_: Any = subject.fitted
    claim(is_dataclass(input_), "An input is a frozen dataclass.")
    options = json.loads(json.dumps(plain_options(input_)))
    plain = {key: _tuples(value) for key, value in options.items()}
    again = cast("Any", type(input_))(**plain)
    claim(
        plain_options(again) == plain_options(input_),
        "Made of its own options as JSON has them, it is another input.",
    )
    if isinstance(again, FitsInput):
        more = again.fitted([subject.field], lambda: ((value,) for value in subject.values[:3]))
        claim(
            plain_options(more) == plain_options(again),
            "`fitted` learns anew what is known already.",
        )


def check_assets(subject: Subject) -> None:
    """Its large parts come back from the files that it writes."""
    input_: Any = subject.fitted
    if not isinstance(input_, HasAssets):
        raise NotApplicable("It is described whole by its options.")
    files = input_.assets()
    for name, content in files.items():
        claim(isinstance(content, bytes), f"The asset {name!r} is a {type(content).__name__}.")
    options = {key: value for key, value in plain_options(input_).items() if key not in files}
    again = cast("Any", type(input_))(**options).with_assets(files)
    claim(again == input_, "Made of its other options and its assets, it is another input.")


def check_sharing(subject: Subject) -> None:
    """It reads what an equal one encodes, and nothing that it does not know."""
    input_ = subject.fitted
    if not isinstance(input_, SharesEntry):
        raise NotApplicable("Only equal ones share what they encode.")
    claim(input_.reading(input_) is not None, "`reading` refuses what it encodes itself.")
    claim(input_.reading(object()) is None, "`reading` takes what it cannot know.")


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that a frozen dataclass has."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
