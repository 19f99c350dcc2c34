"""Weights from an Orbax checkpoint: the folder that a Flax program saves its arrays in.

The tree of a checkpoint becomes names joined by "/", so that `params/Dense_0/kernel` of linen
stays as it is, and the `value` that nnx puts under each variable is dropped. Arrays come as NumPy
arrays, on whatever devices they lay; text, random keys of JAX's own type and the like are left
out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.errors import Refused, WeightsError, did_you_mean, listed
from tlx.trees import flat, unflat
from tlx.types import Location, Tensors
from tlx_weights.folder_digest import folder_digest

TREE = "_METADATA"
"""The file that makes a folder the checkpoint of a tree."""
UNFINISHED = ".orbax-checkpoint-tmp"
MOST_FROM_ONE = 1000
"""Bytes that Zstandard makes of one stored byte in a checkpoint of anything but zeros."""
ALWAYS = 2**24
"""Bytes that may be asked for in any case."""


@final
@dataclass(frozen=True)
class Orbax:
    """A WeightSource over a checkpoint of StandardCheckpointer or PyTreeCheckpointer, or over a
    step of a CheckpointManager.

    Args:
        path: the folder.
        sha256: of the lines that `sha256sum` prints for the files in it in the order of their
            names, or how it begins; checked where given.
    """

    path: Location
    sha256: str = ""

    @staticmethod
    def sample(folder: Path) -> dict[str, Any]:
        """Options of a small checkpoint below `folder`, for the conformance kit."""
        import orbax.checkpoint as ocp

        from tlx.testing.samples import nested, weights

        place = folder.absolute() / "orbax"
        if not place.exists():
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(place, nested(weights()))
        return {"path": str(place)}

    def tensors(self) -> Tensors:
        """The arrays of the tree. Raises WeightsError for a folder that is missing, damaged, no
        checkpoint of a tree, or not the one that was meant."""
        folder = _checkpoint(Path(self.path).expanduser())
        sha256 = folder_digest(folder, self.sha256)
        try:
            return Tensors(_arrays(folder), str(folder), sha256)
        except Refused as why:
            raise WeightsError(f"{folder} {why}") from None
        except Exception as error:  # orbax and tensorstore raise almost anything over damage
            reason = str(error).strip().splitlines()[:1]
            raise WeightsError(
                f"{folder} cannot be read as an Orbax checkpoint ({type(error).__name__}: "
                f"{''.join(reason)[:200]}). It is damaged or incomplete; copy it again."
            ) from error


def _checkpoint(folder: Path) -> Path:
    """The folder with the tree: the one that is meant, or the only item of a step."""
    if not folder.is_dir():
        near = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        what = "is a file" if folder.is_file() else "does not exist"
        raise WeightsError(
            f"{folder} {what}; an Orbax checkpoint is a folder.{did_you_mean(folder.name, near)}"
        )
    if UNFINISHED in folder.name:
        raise WeightsError(f"{folder} was never finished. Name a checkpoint that was.")
    if (folder / TREE).is_file():
        return folder
    items = sorted(p.name for p in folder.iterdir() if (p / TREE).is_file())
    steps = sorted((p.name for p in folder.iterdir() if any(p.glob(f"*/{TREE}"))), key=_number)
    if len(items) == 1 and not steps:
        return folder / items[0]
    if found := items or steps:
        raise WeightsError(
            f"{folder} holds several checkpoints: name one of {listed(found[-10:])}, such as "
            f"{folder / found[-1]}."
        )
    raise WeightsError(
        f"{folder} is no Orbax checkpoint: there is no {TREE} in it or one level below. It holds "
        f"{listed(sorted(p.name for p in folder.iterdir())[:5], 'nothing')}."
    )


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp
    import tensorstore as ts

    _check_names(json.loads((folder / TREE).read_text(encoding="utf-8")))
    if (folder / "manifest.ocdbt").is_file():
        # Orbax opens all arrays at once; if one fails the others complain on the terminal later.
        ts.KvStore.open(f"file://{folder.absolute()}/|ocdbt:").result().list().result()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        described: Any = checkpointer.metadata(folder.absolute()).item_metadata
        if described is None:
            raise Refused(f"has a damaged {TREE}. Copy it again.")
        tree = described.tree
        wanted = {path: leaf for path, leaf in flat(tree).items() if _is_numbers(leaf)}
        _check_sizes(folder, wanted)
        everything = flat(tree)
        item = unflat(tree, {p: 0 if p in wanted else ocp.PLACEHOLDER for p in everything})
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        found: Any = checkpointer.restore(
            folder.absolute(),
            args=ocp.args.PyTreeRestore(
                item=item, restore_args=unflat(tree, dict.fromkeys(everything, as_numpy))
            ),
        )
    values = {path: leaf for path, leaf in flat(found).items() if path in wanted}
    return {path.removesuffix("/value"): np.asarray(leaf) for path, leaf in values.items()}


def _is_numbers(leaf: Any) -> bool:
    return getattr(leaf, "shape", None) is not None and getattr(leaf, "dtype", None) is not None


def _check_names(described: Any) -> None:
    """That no name is a path out of the folder, before anything is opened by it."""
    entries = described.get("tree_metadata") if isinstance(described, dict) else None
    if not isinstance(entries, dict):
        raise Refused(f"has a damaged {TREE}. Copy it again.")
    for written, entry in entries.items():
        keys = entry.get("key_metadata") if isinstance(entry, dict) else None
        for key in [written, *(str(part.get("key")) for part in keys or ())]:
            if ".." in key or key.startswith("/") or not key.isprintable():
                raise Refused(f"holds an array {key[:80]!r}, a name that leads out of it.")


def _check_sizes(folder: Path, wanted: Mapping[str, Any]) -> None:
    """What the arrays claim against what lies there."""
    if not wanted:
        raise Refused("holds no arrays.")
    claimed = sum(
        float(np.prod(leaf.shape, dtype=float)) * np.dtype(leaf.dtype).itemsize
        for leaf in wanted.values()
    )
    stored = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    if claimed > MOST_FROM_ONE * stored + ALWAYS:
        raise Refused(
            f"is damaged, or made to fill the memory: its arrays claim {claimed:.0f} bytes and "
            f"its files have {stored}."
        )


def _number(step: str) -> tuple[int, str]:
    digits = "".join(c for c in step if c.isdecimal())
    return int(digits or -1), step
