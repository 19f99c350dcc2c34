"""Which examples are trained on, which select and which test.

A source's own splits are used as they are; what is missing is cut from `train`. Without a test
split the validation split becomes the test, so that no number that was selected by is reported
as a result. Membership is a pure function of (fingerprint, seed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tlx.contracts.calls import has_said
from tlx.contracts.declared import fault_of_info
from tlx.data.subset import Subset as Subset
from tlx.data.subset import whole_split as whole_split
from tlx.errors import ConfigError, DataError, listed
from tlx.protocols import DataSource, Noted
from tlx.types import DataInfo

NAMES = 5
"""How many files are listed."""
VAL, TEST = 0.1, 0.2
"""The shares of `train` that become validation and test where neither is there nor asked for."""


class Splits(NamedTuple):
    """What a run sees, and how it came about in full sentences; what was left out of each split of
    the source because it cannot be read, by the split's name."""

    train: Subset
    val: Subset
    test: Subset
    notes: tuple[str, ...]
    left_out: Mapping[str, Subset] = {}

    @property
    def parts(self) -> dict[str, Subset]:
        """The three by name."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def unreadable(self) -> list[str]:
        """What was left out, by name."""
        return [part.called(n) for part in self.left_out.values() for n in range(len(part))]


def shuffled(count: int, key: str) -> np.ndarray:
    """A random order of 0..count-1, the same for the same key with every version of numpy: of its
    random numbers only the raw bits of a bit generator are promised to stay (NEP 19)."""
    digest = hashlib.sha256(key.encode()).digest()
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return np.argsort(bits, kind="stable")


def cut(
    source: DataSource,
    *,
    shots: int | None = None,
    limit: int | None = None,
    val: float | int | None = None,
    test: float | int | None = None,
    seed: int,
    without: Mapping[str, np.ndarray] | None = None,
) -> Splits:
    """The training, validation and test examples of a source.

    `val` and `test` are a share of `train` (below 1) or a number of examples, and are cut
    stratified by label where labels are classes; they default to 0.1 and 0.2. `shots` keeps that
    many training examples of every class, and as many for validation unless `val` is given;
    `limit` keeps at most that many, and changes no other split. `without`: numbers of examples
    that are left out of each split of the source.
    Raises ConfigError where an option contradicts the source, DataError where the source has too
    few examples or labels that are no class."""
    info = source.info
    has_said("`info` of the data", source, fault_of_info(info))
    notes = list(source.notes) if isinstance(source, Noted) else []
    without = without or {}
    found = {
        name: whole(source, name, without.get(name))
        for name in ("train", "val", "test")
        if name in info.splits
    }
    left_out = {name: Subset(source.split(name), bad, name, info.fields, info.label)
                for name, bad in without.items()}  # fmt: skip
    notes += [_left_out(name, bad) for name, bad in left_out.items()]
    if "train" not in found:
        raise DataError(
            f"The data source {info.name!r} has no split called 'train'; it has "
            f"{listed(info.splits)}."
        )
    pool = found["train"]
    classed = are_classes(pool.labels, info.classes)
    strata = pool.labels if classed else np.zeros(len(pool), np.int64)

    key = f"{info.fingerprint}/{seed}"
    if info.label is None and not info.targets:
        notes.append(
            f"{info.name!r} has no labels; what would need some, such as knn_accuracy and "
            f"probe_accuracy, is left out."
        )

    def take(size: float | int, purpose: str, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        many = _how_many(size, len(rest), purpose)
        chosen = stratified(strata[rest], many, f"{key}/{purpose}")
        notes.append(
            f"The {purpose} split is {many} of the {len(rest)} examples cut from 'train'"
            f"{', stratified by class' if classed else ''}."
        )
        return rest[chosen], np.delete(rest, chosen)

    # Subsets of the pool, which is a Subset itself: labels that had to be read are read once.
    rest = np.arange(len(pool))
    if "test" in found:
        _refuse(test, "test", info.name, len(found["test"]))
        testing = found["test"]
    elif "val" in found and test is None:
        testing = found.pop("val")
        notes.append(
            f"The data have no test split, so their validation split ({len(testing)} examples) is "
            f"the test and validation is cut from 'train'."
        )
    else:
        chosen, rest = take(TEST if test is None else test, "test", rest)
        testing = pool.at(chosen)

    validation = found.get("val")
    if validation is not None:
        _refuse(val, "val", info.name, len(validation))
    elif shots is None or val is not None:
        chosen, rest = take(VAL if val is None else val, "validation", rest)
        validation = pool.at(chosen)
    for name, asked in (("shots", shots), ("limit", limit)):
        if asked is not None and not classed:
            raise ConfigError(
                f"{name} = {asked} needs one class per example; {why_no_classes(info)}. Remove "
                f"{name}."
            )
    if limit is not None:
        if shots is not None:
            raise ConfigError(
                f"shots = {shots} and limit = {limit} both say how many training examples a class "
                f"has. Keep shots where every class has as many, limit where some have fewer."
            )
        there, rest = len(rest), _limited(pool.labels, rest, limit, f"{key}/limit")
        notes.append(
            f"Training uses {len(rest)} of {there} examples, at most {limit} of each class."
        )
    if shots is not None:
        few, more = _balanced(
            pool.labels, rest, shots, info.classes, f"{key}/shots", spare=validation is None
        )
        notes.append(
            f"Training uses {shots} labelled examples of each of {len(info.classes)} classes."
        )
        rest = few
        if validation is None:
            validation = pool.at(more)
            notes.append(
                f"The validation split is {len(more)} examples, at most {shots} a class, cut from "
                f"the rest of 'train'."
            )
    assert validation is not None
    for name, subset in (("training", rest), ("validation", validation), ("test", testing)):
        if len(subset) == 0:
            raise DataError(f"The data source {info.name!r} leaves no example for {name}.")
    return Splits(pool.at(rest), validation, testing, tuple(notes), left_out)


def _left_out(name: str, bad: Subset) -> str:
    files = [bad.called(number) for number in range(min(len(bad), NAMES))]
    more = [f"{len(bad) - NAMES:,} more"] if len(bad) > NAMES else []
    are = "picture of {!r} cannot be read and is" if len(bad) == 1 else (
        "pictures of {!r} cannot be read and are"
    )  # fmt: skip
    return f"{len(bad):,} {are.format(name)} left out: {listed([*files, *more])}."


def whole(source: DataSource, name: str, without: np.ndarray | None = None) -> Subset:
    """All examples of a split, but for the numbers `without`. Raises DataError for labels that are
    no class or no number."""
    subset = whole_split(source, name)
    if without is not None:
        subset = replace(subset, indices=np.setdiff1d(subset.indices, without))
    _check_labels(subset, source.info.classes)
    return subset


def why_no_classes(info: DataInfo) -> str:
    """Of data whose labels are no classes, what they are."""
    if not info.targets:
        return f"{info.name!r} has no labels"
    return f"the labels of {info.name!r} are numbers or several classes at once"


def are_classes(labels: np.ndarray, classes: tuple[str, ...]) -> bool:
    """Whether every label (N,) is the number of a class."""
    return bool(classes) and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)


def _check_labels(subset: Subset, classes: tuple[str, ...]) -> None:
    """A label outside of the classes trains without complaint and means nothing."""
    labels = subset.labels
    if labels.dtype == object or (
        np.issubdtype(labels.dtype, np.floating) and np.isnan(labels).any()
    ):
        raise DataError(f"The split {subset.name!r} has labels that are missing or no numbers.")
    if not are_classes(labels, classes):
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if wrong.size:
        raise DataError(
            f"Example {wrong[0]} of {subset.name!r} has the label {labels[wrong[0]]}, but the "
            f"{len(classes)} classes are numbered 0 to {len(classes) - 1} "
            f"({wrong.size} labels are out of range)."
        )


def _refuse(size: float | int | None, option: str, source: str, there: int) -> None:
    if size is not None:
        raise ConfigError(
            f"{option} = {size} would cut a split from 'train', but {source!r} brings its own "
            f"{option!r} split of {there} examples. Remove {option}."
        )


def _how_many(size: float | int, available: int, purpose: str) -> int:
    share = isinstance(size, float)
    if isinstance(size, bool) or (share and not 0 < size < 1) or (not share and size < 1):
        raise ConfigError(
            f"The {purpose} split cannot be {size}: give a share between 0 and 1, such as 0.1, or "
            f"a whole number of examples."
        )
    many = max(1, round(size * available)) if share else int(size)
    if many >= available:
        raise DataError(
            f"The {purpose} split of {many} examples leaves nothing to train on: only {available} "
            f"are there."
        )
    return many


def stratified(labels: np.ndarray, many: int, key: str) -> np.ndarray:
    """Positions of `many` random examples with the classes in proportion (largest remainder); no
    class gives its last example as long as another can."""
    classes, counts = np.unique(labels, return_counts=True)
    quota = many * counts / len(labels)
    give = np.minimum(np.floor(quota).astype(int), np.maximum(counts - 1, 0))
    while give.sum() < many:
        room = np.where(counts - give > 1, 1.0, 0.0) if (counts - give > 1).any() else give < counts
        give[np.argmax(np.where(room, quota - give, -np.inf))] += 1
    chosen = [
        members[shuffled(len(members), f"{key}/{label}")[:n]]
        for label, n in zip(classes, give, strict=True)
        for members in [np.flatnonzero(labels == label)]
    ]
    return np.sort(np.concatenate(chosen))


def _limited(labels: np.ndarray, pool: np.ndarray, limit: int, key: str) -> np.ndarray:
    """At most `limit` examples of every class out of `pool`, at random; fewer with the same key are
    a subset of more."""
    kept = [
        members[shuffled(len(members), f"{key}/{label}")[:limit]]
        for label in np.unique(labels[pool])
        for members in [pool[labels[pool] == label]]
    ]
    return np.sort(np.concatenate(kept))


def _balanced(
    labels: np.ndarray,
    pool: np.ndarray,
    shots: int,
    classes: tuple[str, ...],
    key: str,
    *,
    spare: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """(`shots` examples of every class, up to as many others of every class), out of `pool`.

    Fewer shots with the same seed are a subset of more shots."""
    few, more = [], []
    for number, name in enumerate(classes):
        members = pool[labels[pool] == number]
        members = members[shuffled(len(members), f"{key}/{number}")]
        if len(members) < shots + spare:
            also = " and one more for validation" if spare else ""
            raise DataError(
                f"The class {name!r} has {len(members)} examples to train on; shots = {shots} "
                f"needs {shots}{also}. Lower shots or add examples."
            )
        few.append(members[:shots])
        more.append(members[shots:][-shots:])
    return np.sort(np.concatenate(few)), np.sort(np.concatenate(more))
