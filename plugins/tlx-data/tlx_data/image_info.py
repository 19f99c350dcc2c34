"""What a data set of images with one label each is, for every source of such a form."""

from __future__ import annotations

from collections.abc import Mapping

from tlx_image import Image

from tlx.data.fields import label_field
from tlx.types import DataInfo


def image_info(
    name: str,
    shape: tuple[int, int, int] | None,
    classes: tuple[str, ...],
    splits: Mapping[str, int],
    fingerprint: str,
    numbers: tuple[str, ...] = (),
    *,
    several: bool = False,
    labelled: bool = True,
) -> DataInfo:
    """Images of one `shape` (H,W,3), or of several where that is None; a label that is one of
    `classes`, `several` of them at once, or numbers that are called `numbers`, if `labelled`."""
    if not labelled:
        return DataInfo(name, {"image": Image(shape)}, splits, fingerprint, ())
    fields = {"image": Image(shape), "label": label_field(classes, numbers, several)}
    return DataInfo(name, fields, splits, fingerprint)
