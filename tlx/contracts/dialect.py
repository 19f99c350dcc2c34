"""A family's parameter names in somebody else's files, as one table that is read both ways.

A row pairs a name in the file with a leaf path and says how the numbers lie; the conventions
beside the rows say what numbers mean (the order of a kernel's axes, padding, the epsilon of a
normalisation). `tlx.weights.matching` moves numbers by it. Opens without importing jax or numpy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, final

Layout: TypeAlias = Literal[
    "same", "kernel", "stem", "positions", "variance", "flat", "one", "zero", "unit"
]
"""How a tensor becomes a leaf.

same: as it is. kernel: of a convolution or a dense layer, its axes reordered where the two sides
differ. stem: a kernel that reads the picture; where the number of input channels differs, they
are summed to one, or repeated and scaled down. positions: (1,N,D) embeddings of a square grid
behind some class tokens, resampled to another grid. variance: of a batch norm, shifted by the
difference of the epsilons. flat: the same numbers in another shape. one, zero, unit: the tensor
only says that its layer is there, and the leaf is filled with 1, 0 or 1 - epsilon, which makes a
batch norm that was folded into its convolution the identity before its bias."""

FILLED: tuple[Layout, ...] = ("one", "zero", "unit")

_HOLE = re.compile(r"\{(\w+?)([+-]\d+)?\}")
_HOLES = re.compile(r"\{\w+?(?:[+-]\d+)?\}")
_NUMBER = r"(?:0|[1-9]\d{0,8})"


class Row(NamedTuple):
    """One line of the table.

    Args:
        theirs: a name in the file, where `{x}` stands for a whole number.
        ours: a leaf path from `params/` or `state/`; it may say `{x}`, `{x+1}` or `{x-1}`.
        layout: how the tensor becomes the leaf.
        part: (i, n) where ours is the i-th of n equal parts of theirs along its first axis.
        shape: of theirs, for `flat`; -1 for one axis that is free. Without it a leaf cannot be
            written back.
    """

    theirs: str
    ours: str
    layout: Layout = "same"
    part: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None


class Conventions(NamedTuple):
    """What numbers mean beside their names.

    Args:
        kernels: axes of a convolution; a dense kernel is OI in the one and IO in the other.
        padding: where a strided convolution pads: on both sides by half its size (PyTorch), or
            as little as is needed and rather after (TensorFlow's SAME).
        norm_eps: what a normalisation adds to the variance.
        norm_momentum: the share of a running average that a step keeps; 0.9 is what PyTorch calls
            0.1.
    """

    kernels: Literal["OIHW", "HWIO"]
    padding: Literal["both", "after"] = "both"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.9


TORCH, FLAX = Conventions("OIHW"), Conventions("HWIO")


@final
@dataclass(frozen=True)
class Dialect:
    """How one kind of file speaks of a network.

    Args:
        name: such as "timm", for reports and for `tlx export --dialect`.
        rows: the table; where several rows give the same leaf, the first is used for writing.
        theirs: the conventions of the file.
        ours: the conventions of the network here.
        root: what a whole model writes before the names of its body, such as "vit.". In reading,
            anything may stand before all names (see `tlx.weights.places`).
        ignored: globs of names that have no meaning here and need no mention.
        architectures: globs of what such a file's description calls this network, such as
            "resnet[0-9]*"; where a backbone has some, a file of another name is refused.
        read_only: a file of this kind is never written.
    """

    name: str
    rows: tuple[Row, ...]
    theirs: Conventions = TORCH
    ours: Conventions = FLAX
    root: str = ""
    ignored: tuple[str, ...] = ("*.num_batches_tracked",)
    architectures: tuple[str, ...] = ()
    read_only: bool = False

    def leaves(self, name: str) -> tuple[tuple[str, Row], ...]:
        """The leaf paths that a tensor of this name fills, each with its row."""
        if not self._any.fullmatch(name):
            return ()
        found = (
            (_filled(row.ours, match.groupdict()), row)
            for row, pattern in self._by_theirs
            if (match := pattern.fullmatch(name))
        )
        return tuple((path, row) for path, row in found if path)

    def name_of(self, path: str) -> tuple[str, Row] | None:
        """The name in the file for a leaf path, with its row; None where it has none that could
        be written."""
        for row, pattern in () if self.read_only else self._by_ours:
            if match := pattern.fullmatch(path):
                groups = match.groupdict()
                numbers = {
                    hole: int(groups[hole]) - int(shift or 0)
                    for hole, shift in _HOLE.findall(row.ours)
                }
                if all(number >= 0 for number in numbers.values()):
                    root = self.root if row.ours.split("/")[1:2] == ["backbone"] else ""
                    return root + _filled(row.theirs, numbers), row
        return None

    def ignores(self, name: str) -> bool:
        """Whether a name has no meaning here."""
        return any(fnmatchcase(name, glob) for glob in self.ignored)

    @cached_property
    def _any(self) -> re.Pattern[str]:
        """All of the table at once: most ends of a name are in no row."""
        rows = "|".join(_NUMBER.join(map(re.escape, _HOLES.split(row.theirs))) for row in self.rows)
        return re.compile(rows if rows else r"(?!)", re.ASCII)

    @cached_property
    def _by_theirs(self) -> tuple[tuple[Row, re.Pattern[str]], ...]:
        return tuple((row, _pattern(row.theirs)) for row in self.rows)

    @cached_property
    def _by_ours(self) -> tuple[tuple[Row, re.Pattern[str]], ...]:
        return tuple(
            (row, _pattern(row.ours))
            for row in self.rows
            if row.layout not in FILLED and (row.layout != "flat" or row.shape)
        )


def _pattern(template: str) -> re.Pattern[str]:
    """A regular expression for a template; a hole that comes twice must hold the same number."""
    seen: set[str] = set()
    parts, at = [], 0
    for hole in _HOLE.finditer(template):
        name = hole[1]
        parts.append(re.escape(template[at : hole.start()]))
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{_NUMBER})")
        seen.add(name)
        at = hole.end()
    return re.compile("".join([*parts, re.escape(template[at:])]), re.ASCII)


def _filled(template: str, numbers: Mapping[str, int | str]) -> str:
    """The template with its holes filled; empty where a number would fall below zero."""
    values = [int(numbers[name]) + int(shift or 0) for name, shift in _HOLE.findall(template)]
    if any(value < 0 for value in values):
        return ""
    left = iter(values)
    return _HOLE.sub(lambda _: str(next(left)), template)
