"""Which columns of a table are its pictures and its labels.

A run file may name them; otherwise they are known by usual names, in any case, or by what they
hold. Where more than one could be meant, the user is asked; a table may have no pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


Cells = Callable[[str], list[Any]]
"""The first few cells of a column."""


def find_picture(columns: Sequence[str], taken: Sequence[str], where: str, cells: Cells) -> str:
    """The column of pictures, none of those that are `taken`; "" where there is none. Raises
    DataError, opening with `where`, where it could be several."""
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
    return ""


def find_labels(
    columns: Sequence[str],
    taken: Sequence[str | bool | None],
    where: str,
    kind: LabelKind | None,
    cells: Cells,
) -> tuple[str, ...]:
    """The column of labels, none of those that are `taken`, or, where several may apply, one for
    each class. Raises DataError, opening with `where`, where it could be several."""
    free = [name for name in columns if name and name not in taken and plain(name) not in NAMED]
    return _label(free, where, kind, cells)


def refuse_absent(wanted: str, columns: Sequence[str], where: str) -> None:
    """Raise DataError for a column that is not there."""
    if wanted not in columns:
        raise DataError(
            f"{where} has no column {wanted!r}.{did_you_mean(wanted, columns)} Its columns are "
            f"{listed(columns)}; image, label, split_column and fields say which of them are read."
        )


def plain(name: str) -> str:
    """A name without case, spaces and hyphens."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _label(
    free: Sequence[str], where: str, kind: LabelKind | None, cells: Cells
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
        f"{where} has no column 'label'. Training needs one; 'tlx predict' reads tables without."
    )


def _says_a_split(name: str, cells: Cells) -> bool:
    of_yes = any(plain(name) in names for names in YES.values())
    return of_yes and all(_is_flag(cell) for cell in cells(name))


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
