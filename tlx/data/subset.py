"""Some examples of a split, in order, read as their fields have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np

from tlx.contracts.calls import calling, has_returned
from tlx.contracts.field import Fields
from tlx.errors import listed
from tlx.protocols import DataSource, Labelled, Named, Split


@final
@dataclass(frozen=True, eq=False)
class Subset:
    """Some examples of a split, in order: `indices` (N,) are their numbers in the split, which is
    called `name` in its source. `fields` read the values of an example that they name; `label` is
    the field of its label, None where there is none. Itself a Split, Labelled, and Named."""

    split: Split
    indices: np.ndarray
    name: str = "train"
    fields: Fields = field(default_factory=dict)
    label: str | None = "label"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        number = int(self.indices[index])
        example = _example(self.split, number, self.name, tuple(self.fields))
        if not self.fields:
            return example
        name = f"of example {number} of {self.name!r}"
        with calling(f"`read` of a field of the split {self.name!r}", self.split):
            read = {k: f.read(example[k], f"The {k} {name}") for k, f in self.fields.items()}
        return {**example, **read}

    def at(self, positions: np.ndarray) -> Subset:
        """The examples at some positions, whose labels, once read, are not read again."""
        return Subset(self, positions, self.name, label=self.label)

    def called(self, index: int) -> str:
        """The file of an example, where the split knows it, or its place in the source."""
        number = int(self.indices[index])
        if not isinstance(self.split, Named):
            return f"{self.name}[{number}]"
        with calling(f"`called` of the split {self.name!r}", self.split.called):
            return str(self.split.called(number))

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) or (N,C); from the split at once where it is Labelled, else example by example;
        (N,) zeros without a label."""
        if self.label is None:
            return np.zeros(len(self), np.float32)
        if isinstance(self.split, Labelled):
            with calling(f"`labels` of the split {self.name!r}", self.split):
                labels, count = np.asarray(self.split.labels), len(self.split)
            has_returned(
                f"`labels` of the split {self.name!r}",
                self.split,
                labels,
                labels.shape[:1] == (count,),
                f"an array with a label for each of {count} examples",
            )
            return labels[self.indices]
        label, fields = self.label, self.fields
        examples = (_example(self.split, int(i), self.name, (label,)) for i in self.indices)
        values = (example[label] for example in examples)
        if label in fields:
            values = (fields[label].read(value, f"A label of {self.name!r}") for value in values)
        return np.asarray([np.asarray(value) for value in values])


def whole_split(source: DataSource, name: str) -> Subset:
    """All examples of a split, whatever their labels are."""
    with calling(f"The split {name!r} of the data", source):
        split = source.split(name)
        numbers = np.arange(len(split))
    return Subset(split, numbers, name, source.info.fields, source.info.label)


def _example(
    split: Split, number: int, name: str, fields: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """An example that is one, with those fields in it."""
    who = f"Example {number} of the split {name!r}"
    with calling(who, split):
        example = split[number]
    fine = isinstance(example, Mapping) and all(field in example for field in fields)
    wanted = f"a mapping with {listed(map(repr, fields))} in it" if fields else "a mapping"
    has_returned(who, split, example, fine, wanted)
    return example
