"""Several networks as one, each for a port of its own: a picture beside a row, a text or a signal.

What belongs to a tower carries its name in front: features, stages and leaf paths. What they say
together is the feature `pooled`, the vectors of all towers side by side (late fusion). The stages
are those of the first tower, then those of the second: a frozen prefix takes the towers in the
order in which they are named, so that the one with weights is named first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx import trees
from tlx.backbones.wrapping import abstract_input
from tlx.contracts.dialect import FLAX, Dialect, Row
from tlx.contracts.input import FitsBackbone, Input
from tlx.errors import ContractError, listed
from tlx.protocols import Backbone, ForeignNames, Staged
from tlx.types import (
    Features,
    FeatureSpec,
    LeafInfo,
    Mode,
    Params,
    PyTree,
    State,
    Variables,
)

POOLED = "pooled"
"""The feature that the towers have together."""


@final
@dataclass(frozen=True)
class Towers:
    """Backbones by port, two or more, of one input each. A Backbone, Staged, and ForeignNames: a
    file of weights that is one tower's fills that tower alone."""

    towers: tuple[tuple[str, Backbone], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.towers]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ContractError(f"Towers have two or more names, each once, not {listed(names)}.")
        for name, tower in self.towers:
            if not name or "/" in name or name == POOLED:
                raise ContractError(f"{name!r} is no name of a tower: a word that is not 'pooled'.")
            if isinstance(tower.inputs, Mapping):
                raise ContractError(
                    f"The tower {name!r} has several inputs, {listed(tower.inputs)}. Name its own "
                    f"towers instead, one for each."
                )

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The input of each tower."""
        return {name: tower.inputs for name, tower in self.towers}  # type: ignore[misc]

    def for_inputs(self, inputs: Mapping[str, Input]) -> Towers:
        """With each tower for what its own input has learnt."""
        return Towers(
            tuple(
                (n, tower.for_inputs(inputs[n]) if isinstance(tower, FitsBackbone) else tower)
                for n, tower in self.towers
            )
        )

    @cached_property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Those of each tower, and what they say together."""
        found = [
            spec._replace(name=f"{name}/{spec.name}")
            for name, tower in self.towers
            for spec in tower.features
        ]
        width = sum(_last_vector(tower).channels for _, tower in self.towers)
        return (*found, FeatureSpec(POOLED, "vector", width))

    @property
    def modes(self) -> frozenset[Mode]:
        """Those of every tower."""
        return frozenset.intersection(*(tower.modes for _, tower in self.towers))

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Those of each tower in turn; a tower in one piece is one."""
        return tuple(f"{name}/{s}" if s else name for name, _, s, _ in self._steps)

    @cached_property
    def _steps(self) -> tuple[tuple[str, Backbone, str, int], ...]:
        """For each stage the tower's name, the tower, the stage's name there and its number."""
        return tuple(
            (name, tower, stage, number)
            for name, tower in self.towers
            for number, stage in enumerate(tower.stages if isinstance(tower, Staged) else ("",))
        )

    @cached_property
    def dialects(self) -> tuple[Dialect, ...]:
        """How files speak of one of the towers: by its own leaf paths, or as it says itself."""
        return tuple(
            replace(dialect, rows=tuple(_inside(name, row) for row in dialect.rows), root="")
            for name, tower in self.towers
            for dialect in (
                _own_names(name, tower),
                *(tower.dialects if isinstance(tower, ForeignNames) else ()),
            )
        )

    def leaf(self, path: str) -> LeafInfo:
        """As its tower has it."""
        name, _, rest = path.partition("/")
        tower = dict(self.towers).get(name)
        if tower is None:
            raise ContractError(
                f"There is no tower {name!r}; there are {listed(n for n, _ in self.towers)}."
            )
        info = tower.leaf(rest)
        stage = f"{name}/{info.stage}" if isinstance(tower, Staged) else name
        return info._replace(stage=stage)

    def init(self, rng: Array, x: Mapping[str, PyTree]) -> Variables:
        """Fresh numbers of each tower, for inputs (B,...) by port."""
        made = {
            name: tower.init(jax.random.fold_in(rng, number), x[name])
            for number, (name, tower) in enumerate(self.towers)
        }
        params, state = ({n: each[i] for n, each in made.items()} for i in range(2))
        return Variables(params, state)

    def apply(
        self, params: Params, state: State, x: Mapping[str, PyTree], *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features of inputs (B,...) by port."""
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=len(self.stages), rng=rng, mode=mode
        )
        return features, state

    def apply_stages(
        self,
        params: Params,
        state: State,
        carry: PyTree,
        *,
        start: int,
        stop: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[PyTree, Features, State]:
        """Stages `start` to `stop`. What is carried: `inner`, what each tower that has not ended is
        given next, and `vectors`, those of towers that are known already."""
        inner = dict(carry if start == 0 else carry["inner"])
        vectors = {} if start == 0 else dict(carry["vectors"])
        features: dict[str, Array] = {}
        state, numbers = dict(state), {name: n for n, (name, _) in enumerate(self.towers)}
        for name, tower, _, number in self._steps[start:stop]:
            key = jax.random.fold_in(rng, numbers[name])
            given, new, state[name] = _run(
                tower, params[name], state[name], inner.pop(name), number, key, mode
            )
            if number + 1 < (len(tower.stages) if isinstance(tower, Staged) else 1):
                inner[name] = given
            features |= {f"{name}/{each}": feature for each, feature in new.items()}
            if (last := _last_vector(tower).name) in new:
                vectors[name] = new[last].mean(tuple(range(1, new[last].ndim - 1)))
        if stop == len(self.stages):
            features[POOLED] = jnp.concatenate([vectors[name] for name, _ in self.towers], -1)
        return {"inner": inner, "vectors": vectors}, features, state


def _run(
    tower: Backbone,
    params: Params,
    state: State,
    given: PyTree,
    number: int,
    rng: Array,
    mode: Mode,
) -> tuple[PyTree, Features, State]:
    """One stage of a tower, or all of one that runs in one piece."""
    if isinstance(tower, Staged):
        return tower.apply_stages(
            params, state, given, start=number, stop=number + 1, rng=rng, mode=mode
        )
    features, state = tower.apply(params, state, given, rng=rng, mode=mode)
    return None, features, state


def _last_vector(tower: Backbone) -> FeatureSpec:
    """What stands for a tower: its last vector, else its last feature, of which the mean is
    taken."""
    vectors = [spec for spec in tower.features if spec.kind == "vector"]
    return (vectors or list(tower.features))[-1]


def _own_names(name: str, tower: Backbone) -> Dialect:
    """A tower's leaf paths, as a run that had it alone has written them."""
    like = jax.eval_shape(tower.init, *abstract_input(tower))
    paths = [f"params/backbone/{path}" for path in trees.flat(like.params)]
    paths += [f"state/backbone/{path}" for path in trees.flat(like.state)]
    rows = tuple(Row(path, path) for path in paths)
    return Dialect(f"tlx, of {name}", rows, FLAX, FLAX, ignored=(), read_only=True)


def _inside(name: str, row: Row) -> Row:
    """A row for the same leaf within a tower; a head's belongs to no tower."""
    kind, part, rest = (*row.ours.split("/", 2), "")[:3]
    return row._replace(ours=f"{kind}/{part}/{name}/{rest}") if part == "backbone" else row
