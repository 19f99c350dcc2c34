"""The optional contracts of a strategy, each with its check: checks of `strategies`.

A look before planning, a last change after training, other parameters than those that are learnt,
an average that follows them, and pictures to show.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import (
    Averages,
    Brings,
    Draws,
    Finishes,
    HasSetup,
    Reparametrises,
    Strategy,
)
from tlx.testing.claims import NotApplicable, claim, claim_alike, claim_finite, claim_same
from tlx.types import Variables

if TYPE_CHECKING:
    from tlx.testing.strategies import Subject


def set_up(subject: Subject) -> Strategy:
    """The strategy after its `setup`, if it has one."""
    thing, here = subject.make(), subject.here
    if not isinstance(thing, HasSetup):
        return thing

    def of(model: Model, parts: tuple[str, ...]) -> Strategy:
        own = Variables(*({part: tree[part] for part in parts} for tree in here.variables))
        return thing.setup(
            model=model, variables=own, batches=lambda: [here.batch], rng=jax.random.key(9)
        )

    try:
        return of(here.model, ("backbone", "head"))
    except ConfigError:
        return of(replace(here.model, head=None), ("backbone",))


def check_setup(subject: Subject) -> None:
    """`setup`, if there is one, returns a strategy, which brings what it brought before, and finds
    the same when asked again."""
    thing = subject.make()
    if not isinstance(thing, HasSetup):
        raise NotApplicable("It plans without a look at numbers or data.")
    found = subject.thing
    claim(
        isinstance(found, Strategy) and not isinstance(found, type),
        f"`setup` has to return a strategy; it returns a {type(found).__name__}.",
    )
    claim(set_up(subject) == found, "`setup`, asked again, finds something else.")
    before, after = (one.brings if isinstance(one, Brings) else None for one in (thing, found))
    claim(before == after, "A strategy `brings` the same before and after its `setup`.")


def check_finish(subject: Subject) -> None:
    """`finish`, if there is one, returns variables of the same form."""
    if not isinstance(subject.thing, Finishes):
        raise NotApplicable("It has no `finish`.")
    start = subject.variables
    done = subject.thing.finish(
        model=subject.model,
        start=start,
        variables=jax.tree.map(lambda leaf: leaf * 2 if _moves(leaf) else leaf, start),
        batches=lambda: [subject.here.batch],
        score=lambda variables: 0.5,
    ).variables
    claim_alike(tuple(done), tuple(subject.variables), "The variables after `finish`")
    claim_finite(tuple(done), "The variables after `finish`")


def check_effective(subject: Subject) -> None:
    """`effective`, if there is one, returns parameters of the same form and no other numbers when
    asked again; it leaves the strategy's own and the head's as they are."""
    if not isinstance(subject.thing, Reparametrises):
        raise NotApplicable("The network runs with the parameters that are learnt.")
    params = subject.variables.params
    used = subject.thing.effective(params)
    claim_alike(used, params, "The parameters after `effective`")
    claim_same(subject.thing.effective(params), used, "`effective`, asked again")
    for part in set(params) - {"backbone"}:
        claim_same(used[part], params[part], f"The {part}'s parameters after `effective`")


def check_averages(subject: Subject) -> None:
    """`after_update`, if there is one, keeps the state's form and what is not the strategy's own,
    and comes to rest where the parameters do."""
    if not isinstance(subject.thing, Averages):
        raise NotApplicable("Nothing follows its parameters.")
    params, state = subject.variables
    after = subject.thing.after_update(params, state, progress=jnp.float32(0.5))
    claim_alike(after, state, "The state after `after_update`")
    claim_finite(after, "The state after `after_update`")
    for key in set(state) - {"strategy"}:
        claim_same(after[key], state[key], f"The {key}'s state after `after_update`")
    again = subject.thing.begin(params, state)
    claim_alike(again, state, "The state after `begin`, once more")


def check_draw(subject: Subject) -> None:
    """`draw`, if there is one, gives pictures between 0 and 1, the same for the same key."""
    if not isinstance(subject.thing, Draws):
        raise NotApplicable("It draws no pictures.")
    model, batch, key = subject.phases[-1].model, subject.here.batch, jax.random.key(6)
    drawn = subject.thing.draw(model, subject.variables, batch, rng=key)
    for title, pictures in drawn.items():
        where = f"The pictures {title!r}"
        shape = (len(batch.targets["label"]), 3)
        seen = (pictures.shape[0], pictures.shape[-1])
        claim(pictures.ndim == 4 and seen == shape, f"{where} have the shape {pictures.shape}.")
        low, high = float(pictures.min()), float(pictures.max())
        claim(low >= 0 and high <= 1, f"{where} are between {low:g} and {high:g}, not 0 and 1.")
    again = subject.thing.draw(model, subject.variables, batch, rng=key)
    claim_same(again, drawn, "The same pictures, drawn again")


def _moves(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
