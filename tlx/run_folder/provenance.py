"""Which data and weights a run was started with, held against them when it goes on or is measured
again.

A path in a run file says where things lie and not what they are: with the same settings a resumed
run would go on with other pictures or compare with another source, and a number that is measured
again would be about another test.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from tlx import trees
from tlx.contracts.input import Ports
from tlx.data.splits import Splits
from tlx.errors import CheckpointError
from tlx.files import manifest
from tlx.files.stored_json import read_object, require
from tlx.run_folder import folder, membership
from tlx.run_folder.membership import KEPT, RESUMING, Classed, Occasion
from tlx.types import DataInfo, PyTree, Variables

CONTENT = "content"
"""The table of what the pictures of each split are."""
HEAD = 4096
"""Bytes of each file that go into its digest, beside its size."""
Facts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Table of the run file -> field -> what JSON can hold."""


def of_data(info: DataInfo) -> dict[str, Any]:
    """What identifies data, in the order in which it is compared."""
    fields = {name: [field.kind, repr(field)] for name, field in info.fields.items()}
    found = {"classes": info.classes, "splits": dict(info.splits)}
    return {**found, "fields": fields, "fingerprint": info.fingerprint}


def of_inputs(ports: Ports) -> dict[str, Any]:
    """What identifies the inputs of a network, with what they learnt of the training rows."""
    about = {port.name: repr((port.input, port.fields)) for port in ports}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in about.items()}


def of_content(splits: Mapping[str, Classed]) -> dict[str, str]:
    """A digest of the pictures of each split whose examples are files: sizes and first bytes."""
    found = {}
    for name, (subset, _) in splits.items():
        digest = hashlib.sha256()
        try:
            for number in range(len(subset)):
                with open(subset.called(number), "rb") as file:
                    head = file.read(HEAD)
                    digest.update(f"{os.fstat(file.fileno()).st_size}/".encode() + head)
        except (OSError, ValueError):  # they are no files, or none to be read
            continue
        found[name] = digest.hexdigest()
    return found


def of_numbers(variables: Variables) -> str:
    """sha256 over the path, shape, dtype and bytes of every leaf."""
    digest = hashlib.sha256()
    for path, leaf in trees.flat(variables).items():
        array = np.asarray(leaf)
        digest.update(f"{path}/{array.shape}/{array.dtype}/".encode() + array.tobytes())
    return digest.hexdigest()


def of_beginning(fingerprint: Any, splits: Splits, numbers: PyTree) -> bytes:
    """What has to be the same in all processes of a run: its data and the numbers it starts from,
    as digests."""
    leaves = [
        jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        for leaf in jax.tree.leaves(numbers)
    ]
    found = [hashlib.sha256(repr(fingerprint).encode())]
    found += [hashlib.sha256(part.indices.tobytes()) for part in (splits.train, splits.val)]
    found += [hashlib.sha256(np.asarray(leaf).tobytes()) for leaf in leaves]
    return b"".join(each.digest() for each in found)


def keep(out: Path, facts: Facts, splits: Mapping[str, Classed]) -> None:
    """Write into the run's folder `out` what it starts with and which example is in which split.
    What is there already is held against it, see `verify`."""
    mended = verify(out, facts, splits, RESUMING)
    membership.keep(out / folder.SPLIT, splits, fewer=True)
    if mended or not (out / folder.PROVENANCE).exists():
        manifest.write(out / folder.PROVENANCE, json.dumps(facts, indent=1) + "\n")


def verify(out: Path, facts: Facts, splits: Mapping[str, Classed], occasion: Occasion) -> bool:
    """Hold what a run wrote down against `facts`, where both have it. True where the data are
    others and yet what the `occasion` needs of them is the same: of a run that goes on, the
    pictures of training and validation. Raises CheckpointError with the first field, such as
    `data.classes`, that is another one."""
    table = out / folder.SPLIT
    then, now = read(out), json.loads(json.dumps(facts))
    before, after = then.pop(CONTENT, {}), now.pop(CONTENT, {})
    needed = KEPT if occasion is RESUMING else (*KEPT, "test")
    same = all(name in before and before[name] == after.get(name) for name in needed)
    mended = False
    # A format may have known other fields than this one does.
    both = ((n, f, value) for n in then if n in now for f, value in then[n].items() if f in now[n])
    for name, field, was in both:
        if was != (came := now[name].get(field)):
            if same and name == "data" and field in ("splits", "fingerprint"):
                mended = True
                continue
            how = _difference(field, was, came)
            if field == "splits" and (gone := membership.gone(table)):
                how = f"{how}; {gone} is gone"
            if field == "fingerprint":
                how = membership.relabelled(table, splits) or how
            raise CheckpointError(
                f"{occasion.refusal}: {name}.{field} is not what the run in {out} was started "
                f"with ({how}). {occasion.advice(out)}"
            )
    if table.exists():
        membership.verify(table, splits, occasion, fewer=occasion is RESUMING)
    return mended


def read(out: Path) -> dict[str, dict[str, Any]]:
    """What the run in the folder `out` wrote down. Raises CheckpointError where it is damaged."""
    path = out / folder.PROVENANCE
    if not path.exists():  # of a run that began before it was written down
        return {}
    damaged = ", so that nobody knows what the run was started with. Use --overwrite to start anew."
    found = read_object(path, damaged)
    require(found, dict.fromkeys(found, dict), path, damaged)
    return found


def _difference(field: str, before: Any, after: Any) -> str:
    """The first difference, in words."""
    if isinstance(before, list) and isinstance(after, list) and field == "classes":
        for number, (was, now) in enumerate(zip(before, after, strict=False)):
            if was != now:
                return f"class {number} was {was!r} and is {now!r}"
        return f"{len(before)} classes then, {len(after)} now"
    if field == "fields" and isinstance(before, dict) and isinstance(after, dict):
        every = [*before, *(name for name in after if name not in before)]
        name = next((name for name in every if before.get(name) != after.get(name)), "")
        was, now = (_field_said(found.get(name)) for found in (before, after))
        return f"{name} was {was} and is {now}"
    if field == "fingerprint":
        return "files and labels are the same, so that pictures themselves are others"
    return f"{_said(before)} then, {_said(after)} now"


def _field_said(about: Any) -> str:
    """A field as it was written down; whatever stands there of a damaged file."""
    if about is None:
        return "not there"
    return str(about[-1]) if isinstance(about, list) and about else str(about)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} examples of {name!r}" for name, number in value.items())
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
