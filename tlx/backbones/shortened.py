"""A backbone in stages that ends before its last ones, because nobody reads what they say.

They would be run for their statistics alone, and their parameters counted as trained. The stages
below compute what they always did; the network that they are cut from is given stand-ins for the
leaves that are not there any more, which nothing depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jax import Array

from tlx import trees
from tlx.backbones.leaves import leaf_of
from tlx.backbones.wrapping import nested
from tlx.contracts.dialect import Dialect
from tlx.contracts.input import Inputs
from tlx.protocols import Backbone, ForeignNames, Staged
from tlx.trees import Abstract
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


class Leaves(NamedTuple):
    """A tree of numbers and which of its leaves stay: (path, shape, dtype, whether it stays)."""

    structure: Any
    leaves: tuple[tuple[str, tuple[int, ...], Any, bool], ...]

    def cut(self, tree: PyTree) -> dict[str, Any]:
        """The leaves of a whole tree that stay, under the same paths."""
        there = trees.flat(tree)
        whole = self.structure.unflatten([path for path, *_ in self.leaves])
        dropped = {path for path, _, _, stays in self.leaves if not stays}
        kept = jax.tree.map(lambda path: None if path in dropped else there[path], whole)
        return nested(kept)

    def filled(self, tree: PyTree) -> PyTree:
        """The whole tree again, with zeros for what has gone."""
        there = trees.flat(tree)
        return self.structure.unflatten([
            there[path] if stays else jnp.zeros(shape, dtype)
            for path, shape, dtype, stays in self.leaves
        ])  # fmt: skip

    @property
    def gone(self) -> frozenset[str]:
        """Paths of what does not stay."""
        return frozenset(path for path, *_, stays in self.leaves if not stays)


@final
@dataclass(frozen=True)
class Shortened:
    """The first `ends` stages of the backbone `whole`, with the `features` that arise in them. A
    Backbone, Staged, and ForeignNames."""

    whole: Backbone
    ends: int
    features: tuple[FeatureSpec, ...]
    params: Leaves
    state: Leaves

    @property
    def inputs(self) -> Inputs:
        """Those of the whole."""
        return self.whole.inputs

    @property
    def modes(self) -> frozenset[Mode]:
        """Those of the whole."""
        return self.whole.modes

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that are left."""
        return stages_of(self.whole)[: self.ends]

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Those of the whole."""
        return self.whole.dialects if isinstance(self.whole, ForeignNames) else ()

    def leaf(self, path: str) -> LeafInfo:
        """As the whole has it."""
        return self.whole.leaf(path)

    def init(self, rng: Array, x: Array) -> Variables:
        """The numbers that the whole would begin with."""
        return self.cut(self.whole.init(rng, x))

    def cut(self, variables: Variables) -> Variables:
        """Of the whole's variables those that are left."""
        return Variables(self.params.cut(variables.params), self.state.cut(variables.state))

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """All features that are left."""
        _, features, state = self.apply_stages(
            params, state, x, start=0, stop=self.ends, rng=rng, mode=mode
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
        """As the whole does."""
        assert isinstance(self.whole, Staged)
        carry, features, after = self.whole.apply_stages(
            self.params.filled(params), self.state.filled(state), carry,
            start=start, stop=stop, rng=rng, mode=mode,
        )  # fmt: skip
        return carry, features, self.state.cut(after)


def stages_of(backbone: Backbone) -> tuple[str, ...]:
    """Its stages; none of a backbone that runs in one piece."""
    return backbone.stages if isinstance(backbone, Staged) else ()


def root(backbone: Backbone) -> Backbone:
    """The whole of which a backbone may be the first stages."""
    return backbone.whole if isinstance(backbone, Shortened) else backbone


def left_out(backbone: Backbone) -> tuple[str, ...]:
    """The stages that a network lacks because nobody reads them."""
    return stages_of(backbone.whole)[backbone.ends :] if isinstance(backbone, Shortened) else ()


def ends_at(backbone: Backbone) -> int | None:
    """How many stages a network has that ends before its last, else None."""
    return backbone.ends if isinstance(backbone, Shortened) else None


@lru_cache(maxsize=8)
def features_by_stage(backbone: Backbone, x: Abstract) -> tuple[frozenset[str], ...]:
    """Names of the features that arise in each stage, for inputs of the shapes of one example."""
    assert isinstance(backbone, Staged)
    like, carry = _begun(backbone, x)
    found = []
    for number in range(len(backbone.stages)):
        carry, features, _ = jax.eval_shape(
            lambda p, s, c, number=number: backbone.apply_stages(
                p, s, c, start=number, stop=number + 1, rng=jax.random.key(0), mode="eval"
            ),
            *like, carry,
        )  # fmt: skip
        found.append(frozenset(features))
    return tuple(found)


def shortened(backbone: Backbone, ends: int, x: Abstract) -> Shortened:
    """The first `ends` stages of a Staged backbone, for inputs of the shapes of one example."""
    like, _ = _begun(backbone, x)
    stages = stages_of(backbone)[:ends]
    stays = {path: leaf_of(backbone, path).stage in stages for path in trees.flat(like.params)}
    arise = frozenset().union(*features_by_stage(backbone, x)[:ends])

    def leaves(tree: PyTree, stays: dict[str, bool]) -> Leaves:
        entries = trees.flat(tree).items()
        rows = tuple((path, tuple(x.shape), x.dtype, stays[path]) for path, x in entries)
        return Leaves(jax.tree.structure(tree), rows)

    return Shortened(
        backbone,
        ends,
        tuple(spec for spec in backbone.features if spec.name in arise),
        leaves(like.params, stays),
        leaves(like.state, _state_that_stays(backbone, ends, x)),
    )


@lru_cache(maxsize=8)
def _begun(backbone: Backbone, x: Abstract) -> tuple[Variables, Any]:
    """(shapes of its numbers, of its input)."""
    return jax.eval_shape(backbone.init, jax.random.key(0), x.value), x.value


@lru_cache(maxsize=8)
def _state_that_stays(backbone: Backbone, ends: int, x: Abstract) -> dict[str, bool]:
    """Path -> whether the stages before `ends` read or change it, in any mode."""
    assert isinstance(backbone, Staged)
    like, given = _begun(backbone, x)
    paths = list(trees.flat(like.state))
    stays = {
        path: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        for path, leaf in trees.flat(like.state).items()
    }
    before = len(jax.tree.leaves(like.params))
    for mode in backbone.modes:

        def run(params: Params, state: State, carry: PyTree, mode: Mode = mode) -> Any:
            return backbone.apply_stages(
                params, state, carry, start=0, stop=ends, rng=jax.random.key(0), mode=mode
            )

        traced = jax.make_jaxpr(run)(*like, given).jaxpr
        into = traced.invars[before : before + len(paths)]
        out = traced.outvars[len(traced.outvars) - len(paths) :]
        used = {id(v) for eqn in traced.eqns for v in eqn.invars}
        for path, first, last in zip(paths, into, out, strict=True):
            stays[path] = stays[path] or id(first) in used or first is not last
    return stays
