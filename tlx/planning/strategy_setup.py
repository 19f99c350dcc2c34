"""A strategy that looks at numbers and training data before it plans, and what it found.

It is called while a run is assembled, with nothing of validation or test. What it found is computed
again whenever the run is assembled, so it is held against what the run was started with, and goes
as options of the strategy into a saved model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import registry
from tlx.contracts.calls import where
from tlx.devices import hosts
from tlx.errors import ContractError, TlxError
from tlx.extension import extension_of
from tlx.planning import batch_sizes, preparations
from tlx.planning.start import Start, brought
from tlx.protocols import HasSetup, Reparametrises, Strategy
from tlx.run_file.run_config import Part
from tlx.run_folder.provenance import of_numbers
from tlx.types import Variables
from tlx.weights.initial import Initial

DRAWS = 4
"""Of the numbers that are folded into a run's key, the one of `setup`."""


class Found(NamedTuple):
    """What a strategy found: by option what it has set, arrays as digests; and the strategy as an
    entry of a run file that builds it set up, None where its options cannot say it."""

    options: Mapping[str, Any]
    part: Part | None


def set_up(start: Start) -> tuple[Start, Found | None]:
    """The start with the strategy that `setup` returns, and what that found; None where there is
    nothing to set up. Raises ContractError where the run could not go on with it."""
    built, config = start.strategy, start.config
    if not isinstance(built, HasSetup):
        return start, None

    key, name = jax.random.fold_in(start.key, DRAWS), config.strategy.name
    model, batches = start.model.bare, start.training_batches
    strategy = preparations.set_up(name, built, model, start.variables, batches, key)
    if strategy is built:
        return start, None
    found = _found(config.strategy, start.strategy, strategy)
    hosts.same(f"strategy {name!r} after its `setup`", lambda: repr(found).encode())
    things = {**start.things, f"the strategy {name!r}": strategy}
    mesh = start.mesh
    batch_sizes.in_parts(start.step, config.batch_size, mesh.size if mesh else 1, things)
    model = replace(start.model, extension=extension_of(strategy))
    initial = Initial(model, start.initial.rng, start.initial.batch)
    _refuse_others(name, start, strategy, found, initial)
    after = start._replace(strategy=strategy, things=things, model=model, initial=initial)
    return after, found


def _found(part: Part, built: Strategy, strategy: Strategy) -> Found:
    changed = _changed(built, strategy)
    told = {key: value if _plain(value) else _digest(value) for key, value in changed.items()}
    if type(strategy) is not type(built) or not all(map(_plain, changed.values())):
        return Found({"strategy": type(strategy).__name__, **told}, None)
    options = {**part.options, **json.loads(json.dumps(changed))}
    try:
        again = registry.build("strategies", part.name, options)
        same = again == strategy and not _changed(again, strategy)
    except TlxError:
        same = False
    return Found(told, replace(part, options=options) if same else None)


def _changed(built: Strategy, strategy: Strategy) -> dict[str, Any]:
    """The fields that have other values now; all of a strategy of another class. Those that do not
    count when two are compared (`field(compare=False)`) are for its notes, unless it changes the
    network, which may depend on them."""
    if not dataclasses.is_dataclass(strategy):
        return {"strategy": repr(strategy)}
    every = isinstance(strategy, Reparametrises) or extension_of(strategy) is not None
    fields = [field.name for field in dataclasses.fields(strategy) if field.compare or every]
    now = {name: getattr(strategy, name) for name in fields}
    if type(strategy) is not type(built):
        return now
    then = {name: getattr(built, name) for name in now}
    return {
        name: value
        for name, value in now.items()
        if not (value is then[name] or (_plain(value) and value == then[name]))
    }


def _plain(value: Any) -> bool:
    """Whether JSON holds it as it is, but for tuples."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(each) for key, each in value.items())
    if isinstance(value, tuple | list):
        return all(map(_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _digest(value: Any) -> str:
    """What a field holds that is no plain value: sha256 of arrays, else its text."""
    leaves = jax.tree.leaves(value)
    if leaves and all(hasattr(leaf, "dtype") for leaf in leaves):
        numbers = {str(number): np.asarray(leaf) for number, leaf in enumerate(leaves)}
        return f"arrays, sha256 {of_numbers(Variables(numbers, {}))}"
    return repr(value)


def _refuse_others(
    name: str, start: Start, strategy: Strategy, found: Found, initial: Initial
) -> None:
    """What was built and loaded before `setup` has to be what the strategy needs after it."""
    who = f"`setup` of the strategy {name!r}{where(getattr(start.strategy, 'setup', None))}"
    if brought(strategy) != brought(start.strategy):
        raise ContractError(
            f"{who} returns a strategy that brings other divergences or sources, and those of the "
            f"run are built by then. Give `brings` the same before and after."
        )
    if initial.model.extension is None and start.model.extension is None:
        return
    if found.part is None:
        raise ContractError(
            f"{who} returns a strategy that its options do not say, and it changes inputs or "
            f"features: a saved model names the strategy and its options. Let it return "
            f"dataclasses.replace(self, ...) with options of plain values (text, numbers, lists)."
        )
    before, after = (
        {path: (leaf.shape, leaf.dtype) for path, leaf in jax.tree.leaves_with_path(shapes)}
        for shapes in (start.initial.shapes, initial.shapes)
    )
    if before != after:
        raise ContractError(
            f"{who} returns a strategy whose features have other shapes than before, and the head "
            f"of the run is begun by then. Give `change_features` the same shapes before and after."
        )
