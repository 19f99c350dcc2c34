"""A data set of the Hugging Face hub, read by `datasets`.

`datasets` fetches it once and keeps it as Arrow tables, which are read at random. The pictures in
them stay encoded and are decoded by tlx like any other, so that a picture looks the same here and
in a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from tlx_image.decode import read

from tlx.errors import DataError, did_you_mean, listed
from tlx.types import DataInfo, LabelKind, Location
from tlx_data.folder import HEAD
from tlx_data.hfds_labels import class_names, is_list, is_unlabelled, labels_of, written_cells
from tlx_data.image_info import image_info
from tlx_data.label_rules import Labels
from tlx_data.split_names import MEANINGS

SAVED = ("dataset_dict.json", "state.json")
"""What lies in a folder that `save_to_disk` wrote: several splits, or one."""
AT_ONCE = 1000
"""Pictures that are looked at together for it."""


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """A split of `datasets` whose pictures are still encoded. A Split, and Labelled. A picture that
    is a file of its own lies within one of the folders `homes`."""

    table: Any
    name: str
    image: str
    labels: np.ndarray
    homes: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        where = f"Example {index} of {self.name}"
        stored = self.table[int(index)][self.image]
        if stored is None:
            raise DataError(f"{where} has no picture.")
        if (picture := stored["bytes"]) is None:
            image = read(self.file(stored["path"]))
        else:
            image = read(picture, where)
        return {"image": image, "label": self.labels[index]}

    def file(self, path: str | None) -> Path:
        """The file of a picture that is not in the table. Raises DataError for one elsewhere: a
        table of a stranger may name any file of this machine."""
        try:
            real = Path(path or "").resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{self.name} names a picture {path!r}: {error}.") from error
        if not any(real.is_relative_to(home) for home in self.homes):
            raise DataError(
                f"{self.name} names the picture {path!r}, which lies outside of "
                f"{listed(map(str, self.homes))}. Nothing elsewhere is read; save the set with its "
                f"pictures in it."
            )
        return real


class _Found(NamedTuple):
    splits: dict[str, Rows]
    labels: Labels
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class Hfds:
    """The data set called `dataset` on the hub, or a local folder: one laid out like a repository
    of the hub, or one that `save_to_disk` wrote.

    `config` chooses one of several subsets, `revision` a commit, tag or branch, `data_dir` a folder
    within it. `image` and `label` are the columns that are read; None: the only Image and the only
    ClassLabel. Another label may be a name, a number or a list, or stand in several columns;
    `label_kind` is what the head takes it for, `class_names` are the classes in order. Its split
    'validation' is 'val'; a split without labels is left out. DataError where the set cannot be had
    or has no such columns, and where `datasets` is not installed."""

    dataset: Location
    config: str | None = None
    image: str | None = None
    label: str | tuple[str, ...] | None = None
    revision: str | None = None
    data_dir: Location | None = None
    class_names: tuple[str, ...] | None = None
    label_kind: LabelKind | None = None
    label_separator: str = "|"

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small data set below `folder`, for the conformance kit."""
        from tlx_data.samples import hfds

        return hfds(folder)

    @cached_property
    def info(self) -> DataInfo:
        """Classes, sizes and fingerprint; pictures may differ in shape."""
        splits, labels, _ = self._read
        return image_info(
            name=Path(self.dataset).name,
            shape=None,
            classes=labels.classes,
            splits={name: len(split) for name, split in splits.items()},
            fingerprint=_fingerprint(splits, labels.classes),
            numbers=labels.numbers,
        )

    def split(self, name: str) -> Rows:
        """The split `name`."""
        return self._read.splits[name]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, if anything was."""
        return self._read.notes

    @cached_property
    def _read(self) -> _Found:
        datasets = self._package
        every: Mapping[str, Any] = self._opened
        theirs: dict[str, str] = {}
        for name in filter(MEANINGS.__contains__, every):
            if (other := theirs.setdefault(MEANINGS[name], name)) != name:
                raise DataError(
                    f"{self._where} has the splits {other!r} and {name!r}, which are both "
                    f"{MEANINGS[name]!r}; choose one of its configs, or remove one."
                )
        if not theirs:
            raise DataError(
                f"{self._where} has no split called {listed(MEANINGS)}; it has {listed(every)}."
            )
        notes = [
            f"The split {name!r} ({len(table)} examples) of {self.dataset!r} is not used."
            for name, table in every.items()
            if name not in MEANINGS
        ]
        features = every[theirs.get("train") or next(iter(theirs.values()))].features
        image = self._column(features, "image", self.image, (datasets.Image,), datasets.Image)
        columns = self._label_columns(features)
        named = class_names([features[name] for name in columns])
        if named is not None and self.class_names is not None:
            raise DataError(
                f"{self._where} names the classes of {columns[0]!r} itself; leave class_names out."
            )
        tables, written = {}, {}
        for name in (n for n in ("train", "val", "test") if n in theirs):
            table = every[theirs[name]]
            if image not in table.features:
                raise DataError(f"{self._where} has no column {image!r} in {theirs[name]!r}.")
            if any(
                table.features.get(label, features[label]) != features[label] for label in columns
            ):
                raise DataError(
                    f"{self._where} has other classes, or the same in another order, in "
                    f"{theirs[name]!r} than in its other splits."
                )
            cells = written_cells(table, columns)
            if name != "train" and is_unlabelled(cells, named):
                notes.append(
                    f"The split {theirs[name]!r} of {self.dataset!r} has no labels and is left out."
                )
                continue
            raw = table.select_columns([image]).with_format(None)
            tables[name] = raw.cast_column(image, datasets.Image(decode=False))
            written[name] = cells
        labels = labels_of(
            written,
            lambda name, i: f"Example {i} of {self.dataset} {theirs[name]!r}",
            kind=self.label_kind,
            named=named,
            listed=is_list(features[columns[0]]),
            names=self.class_names,
            separator=self.label_separator,
        )
        splits = {
            name: Rows(
                table, f"{self.dataset} {theirs[name]!r}", image, labels.values[name], self._homes
            )
            for name, table in tables.items()
        }
        return _Found(splits, labels, (*notes, *labels.notes))

    def _label_columns(self, features: Mapping[str, Any]) -> tuple[str, ...]:
        datasets = self._package
        kinds = (datasets.ClassLabel, datasets.Value, datasets.List, datasets.LargeList)
        if self.label is None or isinstance(self.label, str):
            return (self._column(features, "label", self.label, kinds, datasets.ClassLabel),)
        each = (self._column(features, "label", name, kinds, datasets.Value) for name in self.label)
        return tuple(each)

    @cached_property
    def _homes(self) -> tuple[Path, ...]:
        """Where pictures may lie: the folders that the options name, and the caches of the hub."""
        from huggingface_hub.constants import HF_HUB_CACHE  # comes with datasets

        local = [folder for folder in (self.dataset, self.data_dir) if folder is not None]
        own = [Path(folder) for folder in local if Path(folder).is_dir()]
        caches = [Path(self._package.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
        return tuple(folder.resolve() for folder in (*own, *caches))

    @property
    def _where(self) -> str:
        return f"The data set {self.dataset!r}"

    @cached_property
    def _package(self) -> Any:
        try:
            import datasets  # slow to import
        except ImportError as error:
            raise DataError(
                f"{self._where} is read by the package datasets: pip install datasets."
            ) from error
        return datasets

    @cached_property
    def _opened(self) -> Mapping[str, Any]:
        """Every split by its own name."""
        datasets, local = self._package, Path(self.dataset)
        saved = any((local / name).is_file() for name in SAVED)
        chosen = {"config": self.config, "data_dir": self.data_dir, "revision": self.revision}
        there = ("revision",) if local.exists() else ()
        for key in chosen if saved else there:
            if chosen[key] is not None:
                raise DataError(
                    f"{self._where} is a local folder, so it has no {key} {chosen[key]!r}; leave "
                    f"it out."
                )
        try:
            if saved:
                found = datasets.load_from_disk(self.dataset)
            else:
                found = datasets.load_dataset(
                    self.dataset, self.config, data_dir=self.data_dir, revision=self.revision
                )
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{self._where} cannot be had: {reason}") from error
        return found if isinstance(found, Mapping) else {"train": found}

    def _column(
        self,
        features: Mapping[str, Any],
        option: str,
        named: str | None,
        kinds: tuple[type, ...],
        guess: type,
    ) -> str:
        """The column that an option has `named`, or the only one of the kind that is guessed."""
        there = listed(f"{name} ({_kind(feature)})" for name, feature in features.items())
        if named is not None:
            if not isinstance(features.get(named), kinds):
                raise DataError(
                    f"{self._where} has no column {named!r} that can be its {option}."
                    f"{did_you_mean(named, features)} Its columns are {there}."
                )
            return named
        fitting = [name for name, feature in features.items() if isinstance(feature, guess)]
        if len(fitting) != 1:
            raise DataError(
                f"{self._where} has {len(fitting) or 'no'} columns of the kind {guess.__name__}; "
                f'say which one is its {option}: {option} = "...". Its columns are {there}.'
            )
        return fitting[0]


def _kind(feature: Any) -> str:
    kind = type(feature).__name__
    return feature.dtype if kind == "Value" else kind


def _fingerprint(splits: Mapping[str, Rows], classes: tuple[str, ...]) -> str:
    """sha256 over the classes in order and each example's label, size and first bytes.

    The fingerprint that `datasets` keeps itself depends on times and places of local files, and
    does not notice a file that was exchanged."""
    digest = hashlib.sha256(repr(classes).encode())
    for name, split in splits.items():
        digest.update(f"{name}/{split.labels.dtype}/".encode() + split.labels.tobytes())
        for size, head in _heads(split):
            digest.update(f"{size}/".encode() + head)
    return digest.hexdigest()


def _heads(split: Rows) -> Iterator[tuple[int, bytes]]:
    """Size and first bytes of every encoded picture; of the others nothing is read."""
    import pyarrow.compute as pc  # comes with datasets

    calls: Any = pc
    batches = split.table.with_format("arrow").iter(AT_ONCE)
    for stored in (chunk for batch in batches for chunk in batch[split.image].chunks):
        content = calls.struct_field(stored, "bytes")
        sizes = calls.binary_length(content).to_pylist()
        heads = calls.binary_slice(content, 0, HEAD).to_pylist()
        paths = calls.struct_field(stored, "path").to_pylist()
        for size, head, path in zip(sizes, heads, paths, strict=True):
            if size is None and path is not None:
                try:
                    with split.file(path).open("rb") as file:
                        head, size = file.read(HEAD), Path(path).stat().st_size
                except OSError as error:
                    raise DataError(f"The picture {path!r} cannot be read: {error}") from error
            yield size or 0, head or b""
