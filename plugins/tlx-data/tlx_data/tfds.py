"""A data set prepared by TensorFlow Datasets, read without TensorFlow.

Random access needs the array_record file format. The pictures are decoded by tlx like any other,
so that a picture looks the same here and in a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from tlx_image.decode import read

from tlx.errors import DataError, did_you_mean, listed
from tlx.types import DataInfo, Location
from tlx_data import tfds_classes
from tlx_data.image_info import image_info

SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""tlx's names of the splits and those of TFDS."""
HEAD = 65536
"""Bytes of each file that go into the fingerprint, beside its name and size."""


@final
@dataclass(frozen=True, eq=False)
class Records:
    """A split of TFDS whose pictures are still encoded. A Split, and Labelled."""

    source: Any
    name: str
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        where = f"Example {index} of {self.name}"
        record = _record(self.source, index, where)
        return {
            "image": read(record[self.image], name=where),
            "label": np.asarray(record[self.label]),
        }

    @cached_property
    def labels(self) -> np.ndarray:
        """Reads every record, but decodes no picture."""
        numbers = range(len(self.source))
        return np.asarray([_record(self.source, i, self.name)[self.label] for i in numbers])


@final
@dataclass(frozen=True)
class Tfds:
    """The data set called `dataset` in TFDS' own notation, `name`, `name/config` or
    `name/config:version`, prepared in `data_dir` (None: TFDS' usual folder).

    `image` and `label` are the features that are read; a label that is a ClassLabel is a class,
    a number is the target of a regression. DataError where the set is unknown, is not prepared,
    or has no such features."""

    dataset: str
    data_dir: Location | None = None
    image: str = "image"
    label: str = "label"

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small data set below `folder`, for the conformance kit."""
        from tlx_data.tfds_sample import sample

        return sample(folder)

    @cached_property
    def info(self) -> DataInfo:
        """Shape, classes, sizes and fingerprint, from the set's own description."""
        about = self._builder.info
        shape = about.features[self.image].shape
        return image_info(
            name=about.name,
            shape=None if None in shape[:2] else (shape[0], shape[1], 3),
            classes=tuple(getattr(about.features[self.label], "names", None) or ()),
            splits={
                name: about.splits[theirs].num_examples
                for name, theirs in SPLITS.items()
                if theirs in about.splits
            },
            fingerprint=self._fingerprint,
        )

    def split(self, name: str) -> Records:
        """The split `name`."""
        import tensorflow_datasets as tfds

        raw = {self.image: tfds.decode.SkipDecoding()}
        try:
            source = self._builder.as_data_source(split=SPLITS[name], decoders=raw)
        except NotImplementedError as error:
            raise DataError(
                f"The data set {self.dataset!r} is prepared, but not as array_record. Remove it "
                f"or choose another data_dir, then run: {self._command}"
            ) from error
        return Records(source, f"{self.dataset} {SPLITS[name]!r}", self.image, self.label)

    @property
    def _command(self) -> str:
        place = f" --data_dir={self.data_dir}" if self.data_dir else ""
        return f"tfds build {self.dataset} --file_format=array_record{place}"

    @cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds  # slow to import
        from tensorflow_datasets.core import constants, naming

        place = Path(self.data_dir or constants.DATA_DIR).expanduser()
        try:
            name, _ = naming.parse_builder_name_kwargs(self.dataset)  # `MySet` lies in my_set
            tfds_classes.refuse_foreign(place / name.name)
            builder = tfds.builder(self.dataset, data_dir=self.data_dir)
        except DataError:
            raise
        except tfds.core.DatasetNotFoundError as error:
            known = tfds.list_builders(with_community_datasets=False)
            raise DataError(
                f"TFDS knows no data set {self.dataset!r}, and none is prepared in "
                f"{self.data_dir or 'its usual folder'!r}.{did_you_mean(self.dataset, known)}"
            ) from error
        except Exception as error:  # what lies there may be damaged in many ways
            reason = str(error).strip().splitlines()[0].rstrip(": ")
            raise DataError(f"TFDS cannot open the data set {self.dataset!r}: {reason}.") from error
        if not builder.info.splits:
            raise DataError(
                f"The data set {self.dataset!r} is not prepared in {str(builder.data_path)!r}. "
                f"Run: {self._command} (most sets of TFDS need `pip install tensorflow` for this "
                f"one step; tlx does not)."
            )
        features: Any = builder.info.features
        for key, kind in ((self.image, tfds.features.Image), (self.label, tfds.features.Tensor)):
            if key not in features or not isinstance(features[key], kind):
                there = listed(f"{k} ({type(f).__name__})" for k, f in features.items())
                raise DataError(
                    f"The data set {self.dataset!r} has no {kind.__name__} feature {key!r}. Its "
                    f"features are {there}."
                )
        return builder

    @cached_property
    def _fingerprint(self) -> str:
        about = self._builder.info
        names = getattr(about.features[self.label], "names", None)
        digest = hashlib.sha256(f"{about.full_name}/{self.image}/{self.label}/{names}".encode())
        for theirs in SPLITS.values():
            for file in about.splits[theirs].filepaths if theirs in about.splits else ():
                path = Path(file)
                with path.open("rb") as opened:
                    head = opened.read(HEAD)
                digest.update(f"{path.name}/{path.stat().st_size}/".encode() + head)
        return digest.hexdigest()


def _record(source: Any, index: int, where: str) -> Mapping[str, Any]:
    try:
        return source[index]
    except Exception as error:  # array_record reports damage by several kinds of exceptions.
        raise DataError(f"{where} cannot be read ({error}). Prepare the data set again.") from error
