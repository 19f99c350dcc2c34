"""WebDataset's tar shards, read at random.

Members that share a key, `KEY.jpg` and `KEY.cls`, are an example (Aizman, Maltby and Breuel 2019,
"High performance I/O for large scale deep learning"). The format is meant for reading in order;
here the headers are read once, and a picture is then read where it lies.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from tlx_image.decode import read

from tlx.errors import DataError, listed
from tlx.types import DataInfo, LabelKind, Location
from tlx_data.image_info import image_info
from tlx_data.label_rules import Labels, class_list
from tlx_data.labels import read_labels
from tlx_data.shard_contents import PICTURES, contents, place
from tlx_data.shards import found

CLASSES = "classes.txt"


@final
@dataclass(frozen=True, eq=False)
class Members:
    """Pictures of shards: picture i is `sizes[i]` bytes from `offsets[i]` on of
    `shards[which[i]]`. A Split, Labelled, and Named."""

    shards: tuple[Path, ...]
    keys: tuple[str, ...]
    which: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        shard, size = self.shards[self.which[index]], int(self.sizes[index])
        name = place(self.keys[index], shard)
        try:
            with shard.open("rb") as file:
                file.seek(int(self.offsets[index]))
                picture = file.read(size)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error}") from error
        if len(picture) < size:
            raise DataError(f"{name} is cut short; the shard was changed while it was read.")
        return {"image": read(picture, name), "label": self.labels[index]}

    def called(self, index: int) -> str:
        """The shard and the key in it."""
        return f"{self.shards[self.which[index]]}:{self.keys[index]}"


@final
@dataclass(frozen=True)
class WebDataset:
    """The tar files that `path` means, and for validation and test `val_path` and `test_path`.

    A path is a glob (`shards/*.tar`) or holds a range (`shards/{000..009}.tar`). An example is a
    picture KEY.jpg, .jpeg, .png or .webp with its label in KEY.cls (text) or in KEY.json (under
    'label'): a class, a number or several, as `label_kind` says what the head takes it for; several
    in a text are divided by `label_separator`. `class_names`, or a line each of a file
    `classes.txt` beside the first shard, are the classes in order. The headers are read on first
    use; DataError for a shard that is missing, compressed or damaged, and for examples that lack a
    part."""

    path: Location
    val_path: Location | None = None
    test_path: Location | None = None
    class_names: tuple[str, ...] | None = None
    label_kind: LabelKind | None = None
    label_separator: str = "|"

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of small shards below `folder`, for the conformance kit."""
        from tlx_data.samples import webdataset

        return webdataset(folder)

    @cached_property
    def info(self) -> DataInfo:
        """Classes, sizes and fingerprint; pictures may differ in shape."""
        splits, labels, digest, _ = self._read
        return image_info(
            name=Path(self.path).resolve().parent.name,
            shape=None,
            classes=labels.classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=digest,
            numbers=labels.numbers,
        )

    def split(self, name: str) -> Members:
        """The split `name`."""
        return self._read[0][name]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out, if anything was."""
        _, labels, _, others = self._read
        if not others:
            return labels.notes
        kinds = listed([repr(e) for e, _ in others.most_common(5)] + ["..."] * (len(others) > 5))
        left_out = (
            f"{others.total()} files in the shards with other endings ({kinds}) were ignored."
        )
        return (left_out, *labels.notes)

    @cached_property
    def _read(self) -> tuple[dict[str, Members], Labels, str, Counter[str]]:
        paths = {"train": self.path, "val": self.val_path, "test": self.test_path}
        shards = {name: found(path) for name, path in paths.items() if path is not None}
        home: dict[Path, str] = {}
        for name, shard in ((n, s) for n, every in shards.items() for s in every):
            if (other := home.setdefault(shard.resolve(), name)) != name:
                raise DataError(
                    f"The shard {str(shard)!r} is in {other!r} and in {name!r}; a picture belongs "
                    f"to one split."
                )
        digest = hashlib.sha256()
        indices = {name: _index(name, every, digest) for name, every in shards.items()}

        def where(name: str, i: int) -> str:
            index = indices[name]
            return place(index.keys[i], shards[name][index.which[i]])

        names = self._names(shards["train"][0])
        written = {name: index.labels for name, index in indices.items()}
        labels = read_labels(
            written, where, kind=self.label_kind, names=names, separator=self.label_separator
        )
        values = labels.values
        digest.update(repr(labels.classes).encode())
        splits = {}
        for name, index in indices.items():
            digest.update(f"{values[name].dtype}".encode() + values[name].tobytes())
            splits[name] = Members(
                tuple(shards[name]),
                tuple(index.keys),
                np.asarray(index.which, np.int32),
                np.asarray(index.offsets, np.int64),
                np.asarray(index.sizes, np.int64),
                values[name],
            )
        others = sum((index.others for index in indices.values()), Counter[str]())
        return splits, labels, digest.hexdigest(), others

    def _names(self, shard: Path) -> tuple[str, ...] | None:
        beside = shard.with_name(CLASSES)
        if self.class_names is not None:
            return class_list(self.class_names, "class_names")
        if not beside.is_file():
            return None
        try:
            lines = beside.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"The file {str(beside)!r} is no UTF-8 text: {error}.") from error
        names = [line.strip() for line in lines]
        while names and not names[-1]:
            names.pop()
        return class_list(names, f"The file {str(beside)!r}")


@final
@dataclass(frozen=True)
class _Index:
    """The examples of a split while they are being found; all lists have an item for each.
    `others` counts what is not read, by ending."""

    keys: list[str] = field(default_factory=list)
    which: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def _index(name: str, shards: list[Path], digest: Any) -> _Index:
    """Every example of the shards, in their order. What they are goes into `digest`; the shards'
    own names do not, so that a copy has the same."""
    index = _Index()
    for which, shard in enumerate(shards):
        held = contents(shard)
        index.others.update(held.others)
        digest.update(f"{name}/{held.digest}/".encode())
        for example in held.examples:
            index.keys.append(example.key)
            index.which.append(which)
            index.offsets.append(example.offset)
            index.sizes.append(example.size)
            index.labels.append(example.label)
    if not index.keys:
        raise DataError(
            f"The shards of {name!r}, {str(shards[0])!r} and so on, hold no picture. An example is "
            f"KEY with one of {listed(f'.{e}' for e in PICTURES)}, and KEY.cls or KEY.json."
        )
    return index
