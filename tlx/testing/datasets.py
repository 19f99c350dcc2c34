"""What every data source must do: what it says of itself is true, and reading is repeatable.

A source that reads files is pointed at samples that the kit writes (see `tlx.testing.samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx import registry
from tlx.contracts.declared import fault_of_info
from tlx.contracts.field import Field
from tlx.contracts.input import FitsInput
from tlx.errors import DataError, TlxError
from tlx.protocols import DataSource, Labelled, Split
from tlx.testing.claims import NotApplicable, claim, claim_value, fail
from tlx.types import DataInfo

SPLITS = ("train", "val", "test")
LOOK_AT = 16


@final
class Subject:
    """A data source under test."""

    def __init__(self, make: Callable[[], DataSource], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> DataSource:
        """The data source."""
        return self.make()

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Its splits by name."""
        return {name: self.thing.split(name) for name in self.thing.info.splits}

    def places(self) -> Iterator[tuple[str, Split, int]]:
        """Up to 16 examples of each split, evenly spread."""
        for name, split in self.splits.items():
            for index in np.unique(np.linspace(0, len(split) - 1, LOOK_AT).astype(int)):
                yield name, split, int(index)


def check_value(subject: Subject) -> None:
    """Equal configuration, equal source."""
    claim_value(subject.make, "A data source")


def check_info(subject: Subject) -> None:
    """`info` names known splits with a 'train', distinct classes and a fingerprint."""
    info = subject.thing.info
    claim(isinstance(info, DataInfo), f"`info` is a {type(info).__name__}, not a DataInfo.")
    unknown = sorted(set(info.splits) - set(SPLITS))
    claim(not unknown, f"`info.splits` names {unknown}; splits are {SPLITS}.")
    claim("train" in info.splits, f"There is no split 'train' among {sorted(info.splits)}.")
    claim(
        len(set(info.classes)) == len(info.classes)
        and all(isinstance(name, str) for name in info.classes),
        f"`info.classes` must be distinct names; they are {info.classes}.",
    )
    claim(
        isinstance(info.fingerprint, str) and info.fingerprint,
        f"`info.fingerprint` must be text that identifies the data; it is {info.fingerprint!r}.",
    )


def check_lengths(subject: Subject) -> None:
    """Every split has as many examples as `info` says, and at least one."""
    for name, size in subject.thing.info.splits.items():
        seen = len(subject.splits[name])
        claim(
            seen == size and size > 0,
            f"`info` counts {size} examples in {name!r}; the split has {seen}.",
        )


def check_fields(subject: Subject) -> None:
    """Every example has the fields that `info` names, each field reads its values, and what is read
    reads the same again."""
    info = subject.thing.info
    claim(not (fault := fault_of_info(info)), f"`info`: {fault}.")
    for name, split, index in subject.places():
        example, where = split[index], f"Example {index} of {name!r}"
        for key, field in info.fields.items():
            claim(key in example, f"{where} has no {key!r}, which `info.fields` names.")
            value = field.read(example[key], f"The {key} of {where}")
            again = field.read(value, f"The {key} of {where}, read again,")
            claim(
                _bytes(value) == _bytes(again), f"{where}: {key!r} reads otherwise a second time."
            )
            shape = getattr(field, "shape", None)
            claim(
                shape is None or np.shape(value) == tuple(shape),
                f"{where}: {key!r} has shape {np.shape(value)}, but its field says {shape}.",
            )
        claim_encoded(info, example, where)


def claim_encoded(info: DataInfo, example: Mapping[str, Any], where: str) -> None:
    """Each value can be encoded: a target by its field, an input by one of the name of its kind."""
    known = {plugin.name for plugin in registry.find("inputs")}
    for key, field in info.fields.items():
        value, name = field.read(example[key], where), f"{where}: {key!r}"
        try:
            if key in info.targets:
                field.encode(value, name)
            elif field.kind in known:
                input_: Any = registry.build("inputs", field.kind)
                if isinstance(input_, FitsInput):
                    input_ = _fitted(input_, field, value)
                input_.encode(value, name=name)
        except DataError as error:
            fail(str(error))


def check_labels(subject: Subject) -> None:
    """A label is a class number, or a 0 or 1 per class; without classes finite numbers."""
    classes = len(subject.thing.info.classes)
    for name, split, index in subject.places():
        label = np.asarray(split[index]["label"])
        where = f"Example {index} of {name!r}"
        if not classes:
            claim(np.all(np.isfinite(label)), f"{where}: the label {label} is not finite.")
        elif label.ndim == 0:
            claim(
                np.issubdtype(label.dtype, np.integer) and 0 <= int(label) < classes,
                f"{where}: the label {label} is no class number from 0 to {classes - 1}.",
            )
        else:
            claim(
                label.shape == (classes,) and np.isin(label, (0, 1)).all(),
                f"{where}: the label {label} is not a 0 or 1 for each of {classes} classes.",
            )


def check_reading_twice(subject: Subject) -> None:
    """The same index gives the same example, in any order of reading and in another process."""
    first = [_frozen(split[index]) for _, split, index in subject.places()]
    again = subject.make()
    backwards = [
        _frozen(again.split(name)[index]) for name, _, index in reversed([*subject.places()])
    ]
    claim(
        first == backwards[::-1],
        "Reading examples a second time, from the last to the first, gives other examples.",
    )


def check_fingerprint(subject: Subject) -> None:
    """Opened twice, a source has the same fingerprint, classes and sizes."""
    one, other = subject.thing.info, subject.make().info
    claim(
        one.fingerprint == other.fingerprint,
        f"Opened twice, the source has the fingerprints {one.fingerprint!r} and "
        f"{other.fingerprint!r}; it may change only when the data do.",
    )
    claim(
        (one.classes, dict(one.splits)) == (other.classes, dict(other.splits)),
        "Opened twice, the source has other classes or other splits.",
    )


def check_labels_at_once(subject: Subject) -> None:
    """`labels`, if a split has them, are those of its examples."""
    checked = 0
    for name, split, index in subject.places():
        if isinstance(split, Labelled):
            checked += 1
            every, one = np.asarray(split.labels), np.asarray(split[index]["label"])
            claim(len(every) == len(split), f"{name!r} has {len(every)} labels, not {len(split)}.")
            claim(
                np.array_equal(every[index], one),
                f"Example {index} of {name!r} has the label {one}, but `labels` says "
                f"{every[index]}.",
            )
    if not checked:
        raise NotApplicable("Its splits have no `labels`.")


def _bytes(value: Any) -> Any:
    return value if isinstance(value, str) else repr(np.asarray(value).tolist())


def _frozen(example: Mapping[str, Any]) -> list[tuple[str, str, bytes]]:
    arrays = {name: np.asarray(value) for name, value in sorted(example.items())}
    return [(name, f"{a.dtype}{a.shape}", _content(a)) for name, a in arrays.items()]


def _content(array: np.ndarray) -> bytes:
    return repr(array.tolist()).encode() if array.dtype == object else array.tobytes()


def _fitted(input_: Any, field: Field, value: Any) -> Any:
    """The input with what it learns of a value, where that says enough."""
    try:
        return input_.fitted([field], lambda: [(value,)])
    except TlxError:
        return input_
