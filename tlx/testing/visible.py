"""What a backbone must do that can be masked: whatever is hidden does not exist for it.

Checks of the kind `backbones`; a network that is not `Maskable` is not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from tlx.protocols import Maskable
from tlx.testing.claims import NotApplicable, claim, claim_alike, claim_close, claim_same
from tlx.testing.compiling import quick_jit
from tlx.types import Mode

if TYPE_CHECKING:
    from tlx.testing.backbones import Subject


class Cells(NamedTuple):
    """How the subject's pictures are divided, and how many cells a mask leaves visible."""

    rows: int
    columns: int

    @property
    def all(self) -> int:
        """Cells of a picture."""
        return self.rows * self.columns

    @property
    def half(self) -> int:
        """Half of them, and one at least."""
        return max(self.all // 2, 1)

    def mask(self, count: int, batch: int) -> np.ndarray:
        """(batch,rows,columns) with `count` visible cells in every picture, which differ."""
        drawn = np.random.default_rng(1).random((batch, self.all)).argsort(axis=1)
        return (drawn < count).reshape(batch, self.rows, self.columns)


def check_visible_form(subject: Subject) -> None:
    """`apply_visible` gives every feature: maps and vectors as ever, tokens of visible cells alone,
    and the state as it was made."""
    cells, batch, mode = _cells(subject), len(subject.x), _moving(subject)
    mask, (whole, _) = cells.mask(cells.half, batch), subject.passes[mode]
    run = _masked(subject, cells.half, mode)
    features, state = jax.eval_shape(run, *subject.shapes, subject.x, mask)
    wanted = dict(whole)
    for spec in subject.thing.features:
        if spec.kind == "tokens":
            leaf = whole[spec.name]
            shape = (batch, leaf.shape[1] - cells.all + cells.half, leaf.shape[2])
            wanted[spec.name] = jax.ShapeDtypeStruct(shape, leaf.dtype)
    where = f"`apply_visible` of {cells.half} out of {cells.all} cells"
    claim_alike(dict(features), wanted, f"{where}: the features")
    claim_alike(state, subject.shapes.state, f"{where}: the state")


def check_hidden_changes_nothing(subject: Subject) -> None:
    """Whatever lies in hidden cells, even NaN: the same features and statistics, to the bit. Maps
    are 0 there."""
    cells, batch, mode = _cells(subject), len(subject.x), _moving(subject)
    mask = cells.mask(cells.half, batch)
    seen = _repeated(mask, subject.x.shape)[..., None]
    run = quick_jit(_masked(subject, cells.half, mode))
    one = run(*subject.variables, subject.x, mask)
    for other in (-subject.x, np.float32(np.nan)):
        again = run(*subject.variables, np.where(seen, subject.x, other), mask)
        claim_same(again, one, f"`apply_visible` in mode {mode!r}, other numbers in hidden cells")
    for spec in subject.thing.features:
        if spec.kind == "map":
            found = np.asarray(one[0][spec.name])
            claim(
                not found[~_repeated(mask, found.shape)].any(),
                f"`apply_visible`: the map {spec.name!r} is not 0 where it is hidden.",
            )


def check_visible_equals_apply(subject: Subject) -> None:
    """With every cell visible `apply_visible` is `apply`."""
    cells, batch, mode = _cells(subject), len(subject.x), _moving(subject)
    run = quick_jit(_masked(subject, cells.all, mode))
    seen = run(*subject.variables, subject.x, cells.mask(cells.all, batch))
    features, state = subject.run(mode)
    what = f"`apply_visible` of every cell against `apply` in mode {mode!r}"
    claim_close(dict(seen[0]), dict(features), f"{what}: the features")
    claim_close(seen[1], state, f"{what}: the state")


def _cells(subject: Subject) -> Cells:
    thing = subject.thing
    if not isinstance(thing, Maskable) or thing.cell is None:
        raise NotApplicable("It cannot be masked layer by layer.")
    height, width = subject.x.shape[1:3]
    claim(
        height % thing.cell == 0 and width % thing.cell == 0,
        f"`cell` is {thing.cell}, which does not divide the pictures of {height} x {width} pixels "
        f"that the backbone wants.",
    )
    return Cells(height // thing.cell, width // thing.cell)


def _moving(subject: Subject) -> Mode:
    return "train" if "train" in subject.thing.modes else "eval"


def _masked(subject: Subject, count: int, mode: Mode) -> Any:
    thing = subject.thing
    assert isinstance(thing, Maskable)

    def run(params: Any, state: Any, x: Any, visible: Any) -> Any:
        return thing.apply_visible(
            params, state, x, visible, count=count, rng=jax.random.key(2), mode=mode
        )

    return run


def _repeated(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of cells as one of the positions (B,h,w) of a map."""
    return mask.repeat(shape[1] // mask.shape[1], 1).repeat(shape[2] // mask.shape[2], 2)
