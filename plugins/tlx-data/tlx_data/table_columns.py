"""Which columns of a table are its pictures and its labels.

A run file may name them; otherwise they are known by usual names, in any case, or by what they
hold. Where more than one could be meant, the user is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tlx_image.image_formats import endings

from tlx.errors import DataError, did_you_mean, listed
from tlx.types import LabelKind
from tlx_data.split_cells import NAMED, YES

IMAGES = (
    "image", "img", "picture", "photo", "path", "file", "filename", "file_name", "filepath",
    "file_path", "image_path", "img_path", "image_file", "image_filename", "image_name", "fname",
    "images", "image_id",
)  # fmt: skip
LABELS = (
    "label", "labels", "class", "classes", "class_name", "classname", "category", "categories",
    "target", "targets", "y", "tag", "tags", "species", "class_label", "value",
)  # fmt: skip


class Columns(NamedTuple):
    """The column of pictures, those of labels, and what was guessed."""

    image: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def find_columns(
    columns: Sequence[str],
    where: str,
    *,
    image: str | None,
    label: str | tuple[str, ...] | None,
    split: str | bool | None,
    kind: LabelKind | None,
    cells: Callable[[str], list[Any]],
) -> Columns:
    """The columns that are meant; `cells` are the first few cells of one. Raises DataError, opening
    with `where`, for a column that is not there or could be several."""
    of_label = () if label is None else (label,) if isinstance(label, str) else tuple(label)
    for wanted in filter(None, (image, *of_label, split if isinstance(split, str) else None)):
        _refuse_absent(wanted, columns, where)
    if len(set(of_label)) < len(of_label) or label == ():
        raise DataError(f"{where}: label lists its columns, each once.")
    picture = image or _picture(columns, of_label, where, cells)
    free = [name for name in columns if name not in (picture, split, *of_label) and name]
    free = [name for name in free if plain(name) not in NAMED]
    labels = of_label or _label(free, where, kind, cells)
    usual = (picture.lower() == "image", labels == ("label",) or bool(of_label))
    read = [f"the pictures in {picture!r}"] if not (image or usual[0]) else []
    read += [f"the labels in {listed(map(repr, labels))}"] if not usual[1] else []
    return Columns(picture, labels, (f"The table has {' and '.join(read)}.",) if read else ())


def plain(name: str) -> str:
    """A name without case, spaces and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _picture(
    columns: Sequence[str],
    taken: Sequence[str],
    where: str,
    cells: Callable[[str], list[Any]],
) -> str:
    free = [name for name in columns if name and name not in taken]
    if "image" in free:
        return "image"
    _refuse_no_header(columns, where)
    by_name = [name for name in free if plain(name) in IMAGES]
    by_look = [name for name in free if _are_pictures(cells(name))]
    both = [name for name in by_name if name in by_look]
    for found in (both, by_name, by_look):
        if len(found) == 1:
            return found[0]
    if both or by_name or by_look:
        raise DataError(
            f"{where} has several columns that may be its pictures, "
            f'{listed(map(repr, both or by_name or by_look))}; say which: image = "...".'
        )
    raise DataError(
        f"{where} has no column 'image'.{did_you_mean('image', columns)} Its columns are "
        f"{listed(columns)}; image, label and split_column say which of them are read."
    )


def _label(
    free: Sequence[str], where: str, kind: LabelKind | None, cells: Callable[[str], list[Any]]
) -> tuple[str, ...]:
    """The column of labels, or, where several may apply, one for each class."""
    if "label" in free:
        return ("label",)
    free = [name for name in free if not _says_a_split(name, cells)]
    by_name = [name for name in free if plain(name) in LABELS]
    if [plain(name) for name in by_name] == ["y"] and any(plain(name) == "x" for name in free):
        by_name = []  # two numbers of one point
    if len(by_name) == 1:
        return (by_name[0],)
    flags = [name for name in free if all(_is_flag(cell) for cell in cells(name))]
    if kind == "multilabel" and not by_name and len(flags) == len(free) > 1:
        return tuple(flags)
    if not by_name and len(free) == 1:
        return (free[0],)
    if by_name or free:
        several = ' or, of several numbers or classes, label = ["...", "..."]'
        raise DataError(
            f"{where} has no column 'label'.{did_you_mean('label', free)} "
            f"{'Several' if len(by_name) > 1 else 'Its'} columns may be meant: "
            f'{listed(map(repr, by_name or free))}. Say which: label = "..."{several}.'
        )
    raise DataError(
        f"{where} has no column 'label'. Training needs one; 'tlx predict' reads pictures without."
    )


def _says_a_split(name: str, cells: Callable[[str], list[Any]]) -> bool:
    of_yes = any(plain(name) in names for names in YES.values())
    return of_yes and all(_is_flag(cell) for cell in cells(name))


def _refuse_absent(wanted: str, columns: Sequence[str], where: str) -> None:
    if wanted not in columns:
        raise DataError(
            f"{where} has no column {wanted!r}.{did_you_mean(wanted, columns)} Its columns are "
            f"{listed(columns)}; image, label and split_column say which of them are read."
        )


def _refuse_no_header(columns: Sequence[str], where: str) -> None:
    if any(_is_picture(name) for name in columns):
        raise DataError(
            f"{where} has no names of columns: its first line is {listed(map(repr, columns))}. Put "
            f"a line such as image,label before it."
        )


def _are_pictures(cells: Sequence[Any]) -> bool:
    return bool(cells) and all(_is_picture(cell) for cell in cells)


def _is_picture(cell: Any) -> bool:
    if isinstance(cell, dict | bytes):
        return isinstance(cell, bytes) or "bytes" in cell
    return isinstance(cell, str) and Path(cell.strip()).suffix.lower() in endings()


def _is_flag(cell: Any) -> bool:
    return str(cell).strip().lower() in ("0", "1", "0.0", "1.0", "true", "false", "yes", "no")
