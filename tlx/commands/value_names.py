"""Which values a person means: files, folders, patterns, lists of names, or names on stdin.

Only names are handled here, so that ten thousand files cost nothing before the first is read. Of a
kind of value that is no file, such as a text, each argument is one, and each line of a list; one
file may hold many values, as a table does rows.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tlx.contracts.field import Field, ListedInFiles, StoredInFiles
from tlx.errors import DataError, Refused
from tlx.files.plain_text import decoded, read_text

STDIN = "-"
LISTS = frozenset({".txt", ".lst", ".list"})
"""Endings of files that hold names of files, one a line."""


class Meant(NamedTuple):
    """A value: its name, which may be the value itself, or what it is called and what stands for it
    in a file of many."""

    name: str
    raw: Any = None


def value_names(given: Iterable[str], stdin: BinaryIO, field: Field) -> list[str]:
    """Names of the values of a field, or the values themselves, in the order in which they were
    given.

    A folder stands for the files in it and below that hold such values, in order of their names;
    what has `*`, `?` or `[` and is no file for all that match; `@FILE` and a file that ends in .txt
    for the names in it, one a line; `-` for those on `stdin`. What is none of these is a name,
    there or not. Raises DataError for what stands for no value."""
    return [name for text in given for name in _meant(text, stdin, field)]


def values_of(names: Iterable[str], field: Field) -> list[Meant]:
    """The values that names mean: a file that holds many stands for all of them."""
    found: list[Meant] = []
    for name in names:
        path = Path(os.path.expanduser(name))
        if isinstance(field, ListedInFiles) and path.suffix.lower() in field.list_endings:
            found += [Meant(*one) for one in field.each_in(path)]
        else:
            found.append(Meant(name))
    return found


def _meant(text: str, stdin: BinaryIO, field: Field) -> Iterator[str]:
    listed = text.removeprefix("@")
    if text == STDIN:
        yield from _named("what came on stdin", _read_stdin(stdin), Path(), field)
    elif (text.startswith("@") and not os.path.exists(text)) or (
        os.path.splitext(text)[1].lower() in LISTS and os.path.isfile(text)
    ):
        yield from _named(listed, _read_list(listed), Path(listed).parent, field)
    else:
        yield from _expanded(text, field)


def _expanded(text: str, field: Field) -> Iterator[str]:
    """The files of a folder or a pattern, or the name itself."""
    if not isinstance(field, StoredInFiles):
        yield text
        return
    path = os.path.expanduser(text)
    if os.path.isdir(path):
        yield from _inside(path, field)
    elif not os.path.exists(path) and glob.has_magic(path):
        found = sorted(glob.glob(path, recursive=True))
        if not found:
            raise DataError(f"No file is called like {text!r}.")
        for name in found:
            yield from _inside(name, field) if os.path.isdir(name) else (name,)
    else:
        yield path if os.path.exists(path) else text


def _inside(folder: str, field: StoredInFiles) -> Iterator[str]:
    """The files of a kind in a folder and below. Hidden ones are left out, links followed, each
    folder once."""
    seen: set[str] = set()
    others: list[Path] = []
    known, count = field.endings, 0
    for at, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if (real := os.path.realpath(at)) in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(f for f in files if not f.startswith(".")):
            if os.path.splitext(name)[1].lower() in known:
                count += 1
                yield os.path.join(at, name)
            else:
                others.append(Path(name))
    if not count:
        kind = getattr(field, "kind", "file")
        only = f", only {len(others)} other file{'s'[: len(others) > 1]}" if others else ""
        raise DataError(
            f"There is no {kind} in the folder {folder!r}{only}.{field.unread_hint(others)}"
        )


def _named(where: str, text: str, beside: Path, field: Field) -> Iterator[str]:
    """What a list names; from the current folder, or else beside the list."""
    lines = text.split("\0") if "\0" in text else text.split("\n")
    names = [line.strip("\r\n") for line in lines if line.strip()]
    if not names:
        raise DataError(f"There is no {field.kind} in {where}; one a line is meant.")
    for name in names:
        if not isinstance(field, StoredInFiles):
            yield name
            continue
        there = os.path.exists(name) or not os.path.exists(beside / name)
        yield from _expanded(name if there else str(beside / name), field)


def _read_list(name: str) -> str:
    try:
        return read_text(Path(name))
    except OSError as error:
        raise DataError(
            f"The list {name!r} cannot be read: {error}. What begins with @ is the name of a list; "
            f"something else that does so is given with - on stdin."
        ) from error
    except Refused as error:
        raise DataError(f"The list {name!r} {error}.") from error


def _read_stdin(stdin: BinaryIO) -> str:
    try:
        return decoded(stdin.read())
    except Refused as error:
        raise DataError(
            f"What came on stdin {error}. Lines are meant, such as names of files, and no file."
        ) from error
