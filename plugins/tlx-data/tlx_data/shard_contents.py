"""The examples of a shard, found once and kept in the user's cache folder.

To know where everything lies in a tar file every header has to be read, which takes longer the more
pictures there are. What was found is kept by the shard's name, and holds as long as its size and
its time of change do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tlx.errors import DataError, listed
from tlx.files.cache_folder import cache_folder
from tlx_data.folder import HEAD
from tlx_data.shards import Member, members

FORM = 1
"""Of what is kept; another one is not read."""
SETTLED = 2 * 10**9
"""Nanoseconds since a shard was changed; one that may be changed again within the same tick of the
clock is not kept."""
PICTURES = ("jpg", "jpeg", "png", "webp")
LABELS = ("cls", "json")
LONGEST = 2**20
"""Bytes of a label that are read."""
KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""A member's name: the key up to the first dot of the last part, and the ending after it."""


class Example(NamedTuple):
    """A picture, `size` bytes from `offset` on, and what its label says, a text or a number."""

    key: str
    offset: int
    size: int
    label: Any


class Contents(NamedTuple):
    """The examples in order; how many other files there are, by ending; and the sha256 over the
    pictures' names, sizes and first bytes."""

    examples: list[Example]
    others: Counter[str]
    digest: str


def contents(shard: Path) -> Contents:
    """What a shard holds, from the cache where it is there and the shard still has the size and
    the time. Raises DataError for one that is damaged or lacks a part of an example."""
    status = shard.stat()
    about = [FORM, str(shard.resolve()), status.st_size, status.st_mtime_ns]
    kept = (
        cache_folder()
        / "shards"
        / f"{hashlib.sha256(about[1].encode(errors='replace')).hexdigest()}.json"
    )
    if (known := _kept(kept, about)) is not None:
        return known
    fresh = _read(shard)
    if time.time_ns() - status.st_mtime_ns > SETTLED:
        _keep(kept, about, fresh)
    return fresh


def _kept(path: Path, about: list[Any]) -> Contents | None:
    """What is kept, where it is whole and about this shard."""
    try:
        digest, _, text = path.read_text(encoding="ascii").partition("\n")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return None
        held = json.loads(text)
        if held["about"] != about:
            return None
        examples = [Example(*row) for row in held["examples"]]
        return Contents(examples, Counter(held["others"]), held["digest"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _keep(path: Path, about: list[Any], found: Contents) -> None:
    """In a file that is there as a whole or not at all; without room it is found anew each time."""
    text = json.dumps({"about": about, **found._asdict()})
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", encoding="ascii")
        partial.replace(path)


def _read(shard: Path) -> Contents:
    found = Contents([], Counter(), "")
    digest = hashlib.sha256()
    with shard.open("rb") as file:
        for key, parts in _grouped(shard, file, found.others).items():
            picture, label = _pair(key, parts, shard)
            if picture is None:
                continue
            said = _label(place(key, shard), label, file)
            found.examples.append(Example(key, picture.offset, picture.size, said))
            file.seek(picture.offset)
            digest.update(f"{picture.name}/{picture.size}/".encode(errors="replace"))
            digest.update(file.read(min(HEAD, picture.size)))
    return found._replace(digest=digest.hexdigest())


def _grouped(shard: Path, file: BinaryIO, others: Counter[str]) -> dict[str, dict[str, Member]]:
    """Key -> ending -> member, of the endings that are read; other endings go into `others`."""
    groups: dict[str, dict[str, Member]] = {}
    for member in members(shard, file):
        match = KEY.fullmatch(member.name)
        if match is None or (ending := match[2].lower()) not in (*PICTURES, *LABELS):
            others[f".{match[2]}" if match else member.name] += 1
            continue
        if not member.regular:
            raise DataError(
                f"The shard {str(shard)!r} holds {member.name!r} as a link, device or sparse "
                f"file. Only plain files are read; pack it anew, with what a link leads to."
            )
        if groups.setdefault(match[1], {}).setdefault(ending, member) is not member:
            raise DataError(f"The shard {str(shard)!r} holds {member.name!r} twice; keep one.")
    return groups


def _pair(key: str, parts: Mapping[str, Member], shard: Path) -> tuple[Member | None, Member]:
    """The picture and the label of an example; no picture for what is not one at all."""
    pictures = [parts[ending] for ending in PICTURES if ending in parts]
    labels = [parts[ending] for ending in LABELS if ending in parts]
    if len(pictures) > 1:
        raise DataError(
            f"The shard {str(shard)!r} holds {listed(repr(p.name) for p in pictures)} under one "
            f"key; an example has one picture."
        )
    if not pictures and "cls" not in parts:
        return None, labels[0]  # a JSON file may be about anything
    if not pictures or not labels:
        lacks = f"{key}.cls or {key}.json" if pictures else f"picture {key!r}"
        has = (pictures or labels)[0].name
        raise DataError(f"The shard {str(shard)!r} holds {has!r}, but no {lacks} beside it.")
    return pictures[0], labels[0]


def _label(place: str, member: Member, file: BinaryIO) -> Any:
    """What a label's file says, a text or a number."""
    if member.size > LONGEST:
        raise DataError(f"{place} has a label {member.name!r} of {member.size} bytes.")
    file.seek(member.offset)
    try:
        text = file.read(member.size).decode("utf-8-sig")
        if member.name.lower().endswith(".cls"):
            return text
        return json.loads(text)["label"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{place} has no label that can be read in {member.name!r} ({type(error).__name__}: "
            f"{error}). A .cls is a name or a number, a .json an object with a 'label'."
        ) from error


def place(key: str, shard: Path) -> str:
    """An example in words, opening a sentence."""
    return f"The picture {key!r} of {str(shard)!r}"
