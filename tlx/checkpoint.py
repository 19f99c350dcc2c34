"""Checkpoints: the steps of a run on disk, from which it goes on bit by bit as before.

Orbax writes the arrays; around it stand our own manifest of digests (Orbax does not notice a
flipped bit) and a comparison of structure, shape and dtype before anything is read (Orbax casts
silently). A run may go on while a copy of its numbers is written in a thread. A step is written
under a hidden name and renamed when it is whole, and renamed back before it is deleted, so a
killed run leaves only whole steps and hidden left-overs.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias, final

import jax
import numpy as np

from tlx.devices import hosts
from tlx.errors import CheckpointError
from tlx.files import manifest
from tlx.run_folder.stored_leaves import as_like, compare, described, sound
from tlx.trees import flat, unflat
from tlx.types import PyTree

JSON: TypeAlias = "Mapping[str, JSON] | list[JSON] | tuple[JSON, ...] | str | float | bool | None"
ARRAYS, LEAVES = "arrays", "step.json"
HIDDEN = (".saving-", ".deleting-")


class Restored(NamedTuple):
    """A step read back: `tree` with the structure and kinds of leaves that were asked for, `meta`
    as it was saved, and in `notes` a sentence for each newer step that was damaged."""

    step: int
    tree: PyTree
    meta: Mapping[str, Any]
    notes: tuple[str, ...]


@final
class Checkpoints:
    """The newest `keep` steps below `root`, each in a folder named after its step.

    Opening and restoring change nothing on disk; the first `save` removes what killed saves and
    deletions left behind. To be closed, or used in a `with` statement."""

    def __init__(self, root: Path, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least 1 step has to stay.")
        self.root = Path(root).absolute()
        self.keep = keep
        self._orbax: Any = None
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[Path] | None = None
        self._cleaned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def steps(self) -> tuple[int, ...]:
        """The steps on disk, oldest first; damaged ones, too."""
        if not self.root.is_dir():
            return ()
        return tuple(sorted(int(p.name) for p in self.root.iterdir() if p.name.isdecimal()))

    def folder(self, step: int) -> Path:
        """Where a step lies."""
        return self.root / f"{step:08d}"

    def save(self, step: int, tree: PyTree, meta: Mapping[str, JSON] | None = None) -> Path:
        """Write a step, wait until it is on disk, then delete what is older than `keep` steps.

        Leaves are arrays (typed random keys, too) or Python numbers. Raises CheckpointError if
        this or a later step is there already (a damaged one is replaced) or the disk is full;
        the older steps stay then."""
        self.wait()
        return self._write(step, *described(tree), meta or {})

    def begin(self, step: int, tree: PyTree, meta: Mapping[str, JSON] | None = None) -> None:
        """The same without waiting for the disk: the numbers are copied to the host and may change
        afterwards. What goes wrong is raised by whatever waits next: `wait`, another save or
        `close`."""
        self.wait()
        if hosts.several():  # their agreement needs this thread
            self.save(step, tree, meta)
            return
        table, arrays = described(tree)
        copies = {path: np.array(array) for path, array in jax.device_get(arrays).items()}
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(self._write, step, table, copies, meta or {})

    def wait(self) -> None:
        """Until what was begun is on disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(
        self,
        step: int,
        table: Mapping[str, Any],
        arrays: Mapping[str, Any],
        meta: Mapping[str, JSON],
    ) -> Path:
        hosts.once(lambda: self._refuse_older(step))
        target, saving = self.folder(step), self.root / f"{HIDDEN[0]}{step:08d}"
        free = hosts.once(lambda: self._cleared(saving))
        try:
            hosts.once(saving.mkdir)
            if arrays:
                import orbax.checkpoint as ocp

                self._checkpointer().save(saving / ARRAYS, args=ocp.args.PyTreeSave(arrays))
            about = {"step": step, "leaves": table, "meta": meta}
            hosts.once(lambda: self._commit(saving, about, target))
        except Exception as error:
            needed = sum(array.nbytes for array in arrays.values())
            if hosts.first():
                shutil.rmtree(saving, ignore_errors=True)
            if not _disk_full(error):
                raise
            raise CheckpointError(
                f"The disk is full: step {step} needs about {needed / 1e6:,.1f} MB in {self.root}, "
                f"where {free / 1e6:,.1f} MB are free. The steps before are kept. Make room or "
                f"lower what is kept, then resume the run."
            ) from error
        hosts.once(self._delete_older)
        return target

    def restore(self, like: PyTree | Callable[[int, Mapping[str, Any]], PyTree]) -> Restored | None:
        """The newest step that is whole, or None where there is no step.

        `like` is a pytree of arrays, `jax.ShapeDtypeStruct`s or Python numbers, or a function from
        the step and its `meta` to one: structure, shapes and dtypes have to be those of the step,
        else a CheckpointError names the leaf. A leaf comes back as the same kind of thing, with the
        sharding that its `like` names. Raises CheckpointError if every step is damaged."""
        step, notes = hosts.once(self._newest)
        if step is None:
            return None
        folder = self.folder(step)
        about = _about(folder / LEAVES)
        tree = like(step, about["meta"]) if callable(like) else like
        wanted = flat(tree)
        compare(wanted, about["leaves"], folder)
        leaves = self._read(folder, wanted, about["leaves"])
        return Restored(step, unflat(tree, leaves), about["meta"], tuple(notes))

    def close(self) -> None:
        """Wait for what was begun and let go of Orbax; closing twice is fine, and a closed one
        opens again when used."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            if self._orbax is not None:
                self._orbax.close()
            self._thread = self._orbax = None

    def _newest(self) -> tuple[int | None, list[str]]:
        """(the newest step that is whole, if there is a step; what is said of damaged ones)."""
        notes: list[str] = []
        for step in reversed(self.steps()):
            try:
                manifest.verify(self.folder(step))
            except CheckpointError as error:
                notes.append(f"Checkpoint {step} is damaged and was passed over: {error}")
                continue
            return step, notes
        if notes:
            raise CheckpointError(
                f"No step in {self.root} can be restored. {' '.join(notes)} Start the run anew."
            )
        return None, []

    def _cleared(self, saving: Path) -> int:
        """Without what was left in the way; the bytes that are free on the disk."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._clean()
        free = shutil.disk_usage(self.root).free
        shutil.rmtree(saving, ignore_errors=True)  # of an interrupted save a moment ago
        return free

    def _commit(self, saving: Path, about: Mapping[str, Any], target: Path) -> None:
        """A step whose arrays are there becomes one that counts."""
        manifest.write(saving / LEAVES, json.dumps(about, indent=1))
        manifest.commit(saving)
        saving.rename(target)
        manifest.flush(self.root)

    def _delete_older(self) -> None:
        for old in self.steps()[: -self.keep]:
            self._delete(old)

    def _checkpointer(self) -> Any:
        if self._orbax is None:
            import orbax.checkpoint as ocp  # takes a second, so only when needed

            self._orbax = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        return self._orbax

    def _refuse_older(self, step: int) -> None:
        for there in reversed(self.steps()):
            if there < step:
                return
            try:
                manifest.verify(self.folder(there))
            except CheckpointError:
                self._delete(there)  # the run went on from before it and arrives here again
                continue
            raise CheckpointError(
                f"Step {step} cannot be saved: {self.root} already holds step {there}. Resume "
                f"that run or write to another folder."
            )

    def _clean(self) -> None:
        if not self._cleaned:
            for path in self.root.iterdir():
                if path.name.startswith(HIDDEN):
                    manifest.discard(path)
            self._cleaned = True

    def _delete(self, step: int) -> None:
        hidden = self.root / f"{HIDDEN[1]}{step:08d}"
        if hidden.exists():
            manifest.discard(hidden)
        self.folder(step).rename(hidden)
        manifest.flush(self.root)
        manifest.discard(hidden)

    def _read(self, folder: Path, wanted: Mapping[str, Any], table: Mapping[str, Any]) -> Any:
        """Leaf path -> leaf, each the kind of thing that `wanted` holds."""
        stored = {path: entry for path, entry in table.items() if 0 not in entry["shape"]}
        arrays: Mapping[str, Any] = {}
        if stored:
            import orbax.checkpoint as ocp

            as_numpy = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in stored}
            arrays = self._checkpointer().restore(
                folder / ARRAYS,
                args=ocp.args.PyTreeRestore(item=dict.fromkeys(stored, 0), restore_args=as_numpy),
            )
        return {path: as_like(leaf, arrays.get(path), table[path]) for path, leaf in wanted.items()}


def _about(path: Path) -> Mapping[str, Any]:
    """What a step says of its leaves; its digest has been checked, and yet it may be another's."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if sound(about["leaves"]) and isinstance(about["meta"], dict):
            return about
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # said below
    raise CheckpointError(f"{path} is no list of leaves. Start the run anew, or from another step.")


def _disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that there is no room."""
    return any(
        (isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT))
        or "No space left on device" in str(e)
        for e in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
