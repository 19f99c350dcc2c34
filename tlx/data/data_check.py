"""What is wrong with data before anything is trained on them.

Every example is read once, as training would read it: what cannot be read, labels that contradict
each other, examples that are in two splits, classes that are in one split only, and examples that
are not what a network expects. What cannot be trained on is broken, what makes a result wrong is
an error, what may be meant so is a warning; each names its files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from tlx.contracts.calls import called
from tlx.contracts.field import Fingerprinted, Print
from tlx.contracts.input import Ports
from tlx.data.inputs import find_warnings
from tlx.data.shown import noun_of
from tlx.data.splits import Subset, are_classes
from tlx.data.target_check import Target, are_targets, check_targets, summarise_targets
from tlx.errors import TlxError, listed
from tlx.types import DataInfo

SPLITS = ("train", "val", "test")
"""Those of a run, which have to have no example in common."""
NAMES = 5
"""How many files a finding lists."""


class Finding(NamedTuple):
    """A sentence, how grave it is, and the files that it is about, `NAMES` at most."""

    level: Literal["broken", "error", "warning"]
    text: str
    files: tuple[str, ...] = ()

    def said(self) -> str:
        """The sentence with its files."""
        return f"{self.text} {listed(self.files)}" if self.files else self.text


class Checked(NamedTuple):
    """The findings, gravest first; how many examples each split has of each class; how many
    examples were looked at, of how many; what targets of a regression are, by name and split."""

    findings: tuple[Finding, ...]
    counts: Mapping[str, Mapping[str, int]]
    looked: int
    pictures: int
    targets: Mapping[str, Mapping[str, Target]] = {}

    def errors(self) -> tuple[Finding, ...]:
        """Those that make a result wrong, or none possible."""
        return tuple(found for found in self.findings if found.level != "warning")


class _Look(NamedTuple):
    """What was seen of one example; `fault` is why it could not be read."""

    split: str
    name: str
    label: Any
    fault: str
    print: Print | None
    flat: bool


def check(
    parts: Mapping[str, Subset],
    info: DataInfo,
    *,
    ports: Ports = (),
    limit: int | None = None,
    labelled: bool = True,
) -> Checked:
    """Look at the examples of a run's splits, `train`, `val` and `test`, and at their labels; of
    other parts only whether they can be read. At `limit` of them at most, spread evenly; with the
    `ports` of a network, whether they look as it expects them. What labels say is left out where
    nobody reads them, who is not `labelled`."""
    classes, numbers = info.classes, info.numbers
    labelled = labelled and info.label is not None
    look, noun = _Looker(info), noun_of(info)
    total = sum(map(len, parts.values()))
    looks = [one for name, part in parts.items() for one in _looks(look, name, part, total, limit)]
    counts = {name: counts_of(parts[name], classes) for name in SPLITS}
    found = [
        *_unreadable(looks, noun),
        *_shared(looks, look),
        *(_contradictions(looks, classes, noun) if labelled else ()),
        *_flat(looks, noun),
        *(_one_sided(counts, noun) if labelled else ()),
        *(_alone(counts["train"], noun) if labelled and parts["train"].labels.ndim == 1 else ()),
    ]
    own = {name: parts[name] for name in SPLITS}
    targets = {}
    if labelled and are_targets(parts["train"].labels, classes):
        targets = summarise_targets(own, numbers)
        found += [Finding(level, text, _few(files)) for level, text, files in
                  check_targets(own, numbers)]  # fmt: skip
    if ports and not any(look.fault for look in looks):
        texts = find_warnings(ports, parts["train"], pretrained=True)
        found += [Finding("warning", text) for text in texts]
    found.sort(key=lambda finding: finding.level)
    return Checked(tuple(found), counts, len(looks), total, targets)


def _looks(
    look: _Looker, name: str, part: Subset, total: int, limit: int | None
) -> Iterator[_Look]:
    share = 1.0 if limit is None else min(1.0, limit / total)
    places = np.linspace(0, len(part) - 1, max(1, round(share * len(part)))).astype(int)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from threads.map(look.at(name, part), places)


class _Looker(NamedTuple):
    """Looks at examples of data."""

    info: DataInfo

    @property
    def told_apart(self) -> list[str]:
        """The inputs whose values are told apart."""
        fields = self.info.fields
        return [name for name in self.info.inputs if isinstance(fields[name], Fingerprinted)]

    def at(self, name: str, part: Subset) -> Callable[[Any], _Look]:
        """A look at the example at a place of a split."""

        def look(place: Any) -> _Look:
            where = part.called(int(place))
            try:
                example = part[int(place)]
                label = example.get(self.info.label) if self.info.label else None
                return _Look(name, where, label, "", *self._print(example))
            except (TlxError, OSError, ValueError) as error:
                return _Look(name, where, None, str(error), None, False)

        return look

    def _print(self, example: Mapping[str, Any]) -> tuple[Print | None, bool]:
        """What tells an example from others, of all its inputs, and whether they show nothing."""
        prints = []
        for name in self.told_apart:
            field: Any = self.info.fields[name]
            with called(field, "field", "fingerprint"):
                prints.append(field.fingerprint(example[name]))
        if len(prints) < 2:
            return (prints[0], prints[0].flat) if prints else (None, False)
        sure = any(one.sure for one in prints)
        whole = Print(b"".join(one.digest for one in prints), sure=sure)
        return whole, all(one.flat for one in prints)

    def pairs(self, first: list[Print], second: list[Print]) -> tuple[list[Any], list[Any]]:
        """(the same, nearly the same): positions in both, for each of the second at most one."""
        known = {one.digest: place for place, one in enumerate(first)}
        same = [(known[one.digest], p) for p, one in enumerate(second) if one.digest in known]
        rest = [place for place, one in enumerate(second) if one.digest not in known]
        if len(self.told_apart) != 1:
            return same, []
        field: Any = self.info.fields[self.told_apart[0]]
        with called(field, "field", "nearly_same"):
            near = field.nearly_same(first, [second[place] for place in rest])
        return same, [(one, rest[other]) for one, other in near]


def _unreadable(looks: Sequence[_Look], noun: str) -> Iterator[Finding]:
    bad = [look.fault for look in looks if look.fault]
    if bad:
        yield Finding("broken", f"{_many(bad, noun)} cannot be read.", _few(bad))


def _shared(looks: Sequence[_Look], look: _Looker) -> Iterator[Finding]:
    """Examples that are in two splits."""
    noun = noun_of(look.info)
    seen = {name: [one for one in looks if one.split == name and one.print] for name in SPLITS}
    for one, other in combinations(seen, 2):
        first, second = seen[one], seen[other]
        found = look.pairs(
            [x.print for x in first if x.print], [x.print for x in second if x.print]
        )
        for level, how, places in zip(("error", "warning"), ("", "nearly "), found, strict=True):
            if not places:
                continue
            names = [f"{second[b].name} = {first[a].name}" for a, b in places]
            if not all(_is_sure(second[b]) for _, b in places):
                level = "warning"
            what = f"{_many(names, noun)} of {other!r} {_are(names)} {how}in {one!r}, too"
            use = "trained on" if one == "train" else "selected by"
            why = f": what is measured on them was {use}." if level == "error" else "."
            yield Finding(level, what + why, _few(names))


def _is_sure(look: _Look) -> bool:
    """Whether what looks the same is the same."""
    return look.print is not None and look.print.sure


def _contradictions(
    looks: Sequence[_Look], classes: tuple[str, ...], noun: str
) -> Iterator[Finding]:
    """The same example, under two labels or more than once in a split."""
    same: dict[bytes, list[_Look]] = {}
    for look in looks:
        if (
            look.print
            and look.split in SPLITS
            and look.label is not None
            and np.ndim(look.label) < 2
        ):
            same.setdefault(look.print.digest, []).append(look)
    groups = [each for each in same.values() if len(each) > 1 and not each[0].flat]
    odd = [first for each in groups if len(first := _first_by(each, "label")) > 1]
    if odd:
        names = [
            " and ".join(f"{look.name} ({_said(look.label, classes)})" for look in first.values())
            for first in odd
        ]
        one = are_classes(np.asarray([looks[0].label]), classes)
        what = f"{_are(odd)} in two classes at once" if one else f"{_have(odd)} two labels"
        sure = all(map(_is_sure, (look for first in odd for look in first.values())))
        level = "error" if sure else "warning"
        yield Finding(level, f"{_many(odd, noun)} {what}.", _few(names))
    # Of an example that is in two splits as well, the two that are in one of them.
    twice = [
        (first[look.split], look)
        for each in groups
        if (first := _first_by(each, "split"))
        and (look := next((x for x in each if first[x.split] is not x), None))
    ]
    if twice:
        names = [" = ".join(look.name for look in each) for each in twice]
        yield Finding(
            "warning", f"{_many(twice, noun)} {_are(twice)} there more than once.", _few(names)
        )


def _first_by(looks: Sequence[_Look], field: Literal["label", "split"]) -> dict[Any, _Look]:
    """The first look with each value of a field."""
    found: dict[Any, _Look] = {}
    for look in looks:
        value = getattr(look, field)
        key = value if isinstance(value, str) else tuple(np.ravel(value).tolist())
        found.setdefault(key, look)
    return found


def _said(label: Any, classes: tuple[str, ...]) -> str:
    """A label in words: its class, those that apply, or its numbers."""
    numbers = np.ravel(label).tolist()
    if classes and np.ndim(label) == 0:
        return classes[int(numbers[0])]
    if classes:
        names = [name for name, there in zip(classes, numbers, strict=True) if there]
        return listed(names, "none")
    return listed([f"{number:g}" for number in numbers])


def _flat(looks: Sequence[_Look], noun: str) -> Iterator[Finding]:
    flat = [look.name for look in looks if look.flat]
    if flat:
        how = "of one colour show nothing" if noun == "picture" else "without any content"
        yield Finding("warning", f"{_many(flat, noun)} {how}.", _few(flat))


def _one_sided(counts: Mapping[str, Mapping[str, int]], noun: str) -> Iterator[Finding]:
    """Classes without examples to learn from, or to be measured by."""
    for name, why in (
        ("train", "cannot be learnt"),
        ("val", "cannot be selected for"),
        ("test", "cannot be measured"),
    ):
        empty = [label for label, count in counts[name].items() if not count]
        if empty and len(empty) < len(counts[name]):
            many, one = _many(empty, "class", "classes"), "an" if noun == "example" else "a"
            text = f"{many} without {one} {noun} in {name!r} {why}."
            yield Finding("error" if name == "train" else "warning", text, _few(empty))


def _alone(counts: Mapping[str, int], noun: str) -> Iterator[Finding]:
    """One class, which is always the answer."""
    if len(counts) == 1:
        yield Finding("error", one_class(noun, next(iter(counts))))


def one_class(noun: str, name: str) -> str:
    """What is wrong with examples that are all of one class, in words."""
    advice = (
        " Put those of each class in a folder of their own; of an unpacked archive give the folder "
        "that holds these."
    )
    found = f"All {noun}s are of one class, {name!r}, and one class alone cannot be learnt."
    return found + (advice if noun == "picture" else "")


def counts_of(part: Subset, classes: tuple[str, ...]) -> dict[str, int]:
    """Examples of each class, of which an example may have several; nothing for other labels."""
    labels = part.labels
    if classes and labels.ndim == 2 and labels.shape[1] == len(classes):
        counts = (labels != 0).sum(0)
    elif are_classes(labels, classes):
        counts = np.bincount(labels, minlength=len(classes))
    else:
        return {}
    return dict(zip(classes, counts.tolist(), strict=True))


def _many(things: Sequence[Any], one: str, many: str | None = None) -> str:
    return f"{len(things):,} {one if len(things) == 1 else many or one + 's'}"


def _have(things: Sequence[Any]) -> str:
    return "has" if len(things) == 1 else "have"


def _are(things: Sequence[Any]) -> str:
    return "is" if len(things) == 1 else "are"


def _few(names: Sequence[str]) -> tuple[str, ...]:
    more = len(names) - NAMES
    return (*names[:NAMES], f"{more:,} more") if more > 0 else tuple(names)
