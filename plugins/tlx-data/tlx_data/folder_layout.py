"""Which folders of a folder are splits and which are classes.

A folder that is called like a split and holds folders of pictures is one, whatever the case of its
name; beside splits there is nothing that is not understood. A folder called `train` that holds
pictures, beside others that do, is a class. Where the tree can be read in two ways it is not
guessed: the error says both and how to choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tlx.errors import ConfigError, DataError, did_you_mean, listed
from tlx_data.folder_scan import holds_pictures, listing
from tlx_data.split_names import hint, meaning

Kind: TypeAlias = Literal["auto", "splits", "classes"]
Meaning: TypeAlias = Literal["train", "val", "test", "ignore"]
AS_CLASSES = '[data] layout = "classes" (`--set data.layout=classes`)'


class Layout(NamedTuple):
    """Where the class folders of each split lie, which folders beside them are no class, and what
    a user should know of it, in full sentences."""

    roots: Mapping[str, Path]
    left_out: frozenset[Path] = frozenset()
    notes: tuple[str, ...] = ()


class Inside(NamedTuple):
    """What a folder holds: whether pictures lie loose in it, and which folders with pictures."""

    loose: int
    folders: tuple[Path, ...]

    @property
    def empty(self) -> bool:
        """Whether there is no picture at all."""
        return not self.loose and not self.folders


def layout_of(root: Path, kind: Kind, meanings: Mapping[str, Meaning]) -> Layout:
    """How a folder is laid out. `kind` and `meanings`, by the names of its folders, are what its
    user says. ConfigError for a name that is not there, DataError for what cannot be decided."""
    inside = {folder: look_inside(folder) for folder in listing(root).folders}
    names = [folder.name for folder in inside]
    for name in meanings:
        if name not in names:
            raise ConfigError(
                f"[data] splits names a folder {name!r}, which is not in {str(root)!r}."
                f"{did_you_mean(name, names)} There: {listed(names)}."
            )
    left_out = frozenset(f for f in inside if meanings.get(f.name) == "ignore")
    rest = {folder: found for folder, found in inside.items() if folder not in left_out}
    said = {f: meanings[f.name] for f in rest if f.name in meanings}
    if said and kind == "classes":
        raise ConfigError(
            f'[data] layout = "classes" says that every folder is a class, and splits says that '
            f"{next(iter(said)).name!r} is a split. Leave out one of the two."
        )
    meant = {f: split for f in rest if (split := said.get(f) or meaning(f.name))}
    if kind == "classes" or (kind == "auto" and not said and not _has_splits(root, rest, meant)):
        if kind == "auto":
            _refuse_other_readings(root, rest)
        return Layout({"train": root}, left_out)
    return _as_splits(root, rest, meant, kind == "auto")._replace(left_out=left_out)


def unlabelled_splits(root: Path, kind: Kind, meanings: Mapping[str, Meaning]) -> Layout | None:
    """How a folder is laid out whose pictures lie in no folders of classes: loose, or in folders
    of splits that hold no folders themselves. None for any other."""
    folders = {f: look_inside(f) for f in listing(root).folders}
    full = {f: found for f, found in folders.items() if not found.empty}
    if kind == "classes" or meanings.keys() - {f.name for f in folders}:
        return None
    if not full:
        return Layout({"train": root}) if listing(root).pictures else None
    meant = {f: meanings.get(f.name) or meaning(f.name) for f in full}
    left_out = frozenset(f for f, split in meant.items() if split == "ignore")
    roots = {split: f for f, split in meant.items() if split and f not in left_out}
    flat = not any(full[f].folders for f in roots.values())
    if not flat or "train" not in roots or len(roots) + len(left_out) < len(full):
        return None
    return Layout(roots, left_out)


def look_inside(folder: Path) -> Inside:
    """What a folder holds itself, and which of its folders hold pictures."""
    there = listing(folder)
    return Inside(len(there.pictures), tuple(f for f in there.folders if holds_pictures(f)))


def _has_splits(root: Path, inside: Mapping[Path, Inside], meant: Mapping[Path, str]) -> bool:
    """Whether the folders with a split's name are splits, as far as that can be known."""
    if not meant:
        return False
    if any(inside[f].folders for f in meant):
        return True
    beside = [f for f, found in inside.items() if f not in meant and not found.empty]
    unsure = [f for f, split in meant.items() if split == "test" or not beside]
    if not unsure:
        return False  # a split for training or validation has labels, and these have none
    names, where = _names(unsure), f"beside {_names(beside)}" if beside else f"in {str(root)!r}"
    other = (
        f"For a test split without labels, leave it out of the run by [data] splits = "
        f'{{ {_toml(unsure[0].name)} = "ignore" }} (`--set data.splits.{unsure[0].name}=ignore`).'
        if beside
        else "If not, put the pictures of each class in a folder of its own: train/CLASS/PICTURE."
    )
    maybe = "a split, but also a class" if len(unsure) == 1 else "splits, but also classes"
    raise DataError(
        f"{names} {where}: by the name {maybe}, holding pictures without folders of classes. For "
        f"{'a class' if len(unsure) == 1 else 'classes'} say {AS_CLASSES}. {other}"
    )


def _refuse_other_readings(root: Path, inside: Mapping[Path, Inside]) -> None:
    """Class folders that look as if they were something else: a folder in a folder, or splits of
    names that nobody knows."""
    full = {f: found for f, found in inside.items() if not found.empty}
    deep = {f: found for f, found in full.items() if found.folders and not found.loose}
    if len(full) == 1 and deep:
        at, _ = deepest(root)
        (only,) = full
        raise DataError(
            f"{str(root)!r} holds one folder of pictures, {only.name!r}, and its folders "
            f"{_names(look_inside(at).folders)} are inside of that, as in an unpacked archive. One "
            f"class alone cannot be learnt; give {str(at)!r} instead. If {only.name!r} is a class, "
            f"say {AS_CLASSES}."
        )
    known = {f: split for f in deep if (split := hint(f.name))}
    classes = {frozenset(f.name for f in found.folders) for found in full.values()}
    alike = len(full) > 1 and full == deep and len(classes) == 1 and len(next(iter(classes))) > 1
    if "train" in known.values() or alike:
        why = "hold folders of the same names" if alike else "have names like those of splits"
        guess = {f: known.get(f, "ignore") for f in full} if known else {}
        say = ", ".join(f'{_toml(f.name)} = "{split}"' for f, split in guess.items())
        say = say or f'{_toml(next(iter(full)).name)} = "train", ...'
        raise DataError(
            f"The folders {_names(full)} of {str(root)!r} {why}: they may be splits with a folder "
            f"for each class in them, or classes. If splits, say which is which, such as [data] "
            f"splits = {{ {say} }}; if classes, say {AS_CLASSES}."
        )


def _as_splits(
    root: Path, inside: Mapping[Path, Inside], meant: Mapping[Path, str], unwrap: bool
) -> Layout:
    strangers = [f for f in inside if f not in meant]
    if full := [f for f in strangers if not inside[f].empty]:
        first = full[0]
        near = hint(first.name) or "test"
        raise DataError(
            f"{_names(full)} beside the {'split' if len(meant) == 1 else 'splits'} {_names(meant)} "
            f"of {str(root)!r}: no name of a split that is known, and nothing is left out "
            f'silently. Say what it is by [data] splits = {{ {_toml(first.name)} = "{near}" }} '
            f'(or "train", "val", "test", "ignore"; `--set data.splits.{first.name}={near}`). If '
            f"all of them are classes, say {AS_CLASSES}."
        )
    notes = []
    if strangers:
        notes.append(f"Without a picture, and so left out: {_names(strangers)}.")
    by_split: dict[str, Path] = {}
    for folder, split in meant.items():
        if split in by_split:
            raise DataError(
                f"Both {by_split[split].name!r} and {folder.name!r} of {str(root)!r} are a "
                f"{SPLIT[split]} split. Keep one, or say what the other is by [data] splits = "
                f'{{ {_toml(folder.name)} = "ignore" }}.'
            )
        by_split[split] = folder
    if "train" not in by_split:
        raise DataError(
            f"{str(root)!r} has {_names(meant)} and nothing to train on. Say which folder is the "
            f'training split by [data] splits = {{ FOLDER = "train" }}; if all are classes, say '
            f"{AS_CLASSES}."
        )
    return _with_labels(by_split, inside, notes, unwrap)


def _with_labels(
    by_split: Mapping[str, Path], inside: Mapping[Path, Inside], notes: list[str], unwrap: bool
) -> Layout:
    """The splits whose class folders are there; a test split may have none and is left out."""
    trained, _ = deepest(by_split["train"], unwrap)
    classes = {f.name for f in look_inside(trained).folders}
    roots: dict[str, Path] = {}
    if other := [f"{f.name!r} is the {SPLIT[s]} split" for s, f in by_split.items() if f.name != s]:
        notes.append(f"By {'its name' if len(other) == 1 else 'their names'} {listed(other)}.")
    for split in (name for name in ("train", "val", "test") if name in by_split):
        folder = by_split[split]
        found = inside[folder]
        at, between = deepest(folder, unwrap)
        if split == "test" and not found.empty:
            own = {f.name for f in look_inside(at).folders}
            if not own or (len(own) == 1 and not own & classes and len(classes) > 1):
                notes.append(
                    f"The pictures of {str(folder)!r} lie in no folders of classes, so nothing is "
                    f"measured on them; `tlx predict RUN {folder}` says what a trained model sees "
                    f"in them."
                )
                continue
        if found.empty or not found.folders:
            what = "pictures without folders of classes" if found.loose else "no picture"
            raise DataError(
                f"The folder {str(folder)!r}, the {SPLIT[split]} split, holds {what}. Put the "
                f"pictures of each class in a folder named after it ({folder}/CLASS/PICTURE), or "
                f'leave it out by [data] splits = {{ {_toml(folder.name)} = "ignore" }}.'
            )
        if between:
            notes.append(f"The classes of {str(folder)!r} are those of the folder {str(at)!r}.")
        roots[split] = at
    return Layout(roots, notes=tuple(notes))


def deepest(folder: Path, unwrap: bool = True) -> tuple[Path, int]:
    """Where folders begin to be several, or pictures to lie, and how far down that is: an archive
    that was unpacked into a folder of its own name is one deeper than it looks, unless its user
    says that splits are as they lie, and nothing is to `unwrap`."""
    at, down = folder, 0
    while unwrap:
        found = look_inside(at)
        if found.loose or len(found.folders) != 1:
            return at, down
        below = look_inside(found.folders[0])
        if below.loose or not below.folders:
            return at, down
        at, down = found.folders[0], down + 1
    return at, down


SPLIT = {"train": "training", "val": "validation", "test": "test"}


def _names(folders: Iterable[Path]) -> str:
    names = [repr(folder.name) for folder in folders]
    return listed(names if len(names) <= 6 else [*names[:6], f"{len(names) - 6} more"])


def _toml(name: str) -> str:
    """A key as TOML has it."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
