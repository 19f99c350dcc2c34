"""Greedy soup: the average of several fine-tuned models of one source, where it helps.

Runs from the same weights with other options end in one valley, where the average is better than
each (Wortsman et al. 2022, arXiv:2203.05482, recipe 1): from the best to the worst on validation, a
model is added if the average does not get worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import jax
from jax import Array

from tlx.errors import WeightsError, listed
from tlx.model import Model
from tlx.protocols import Finished, Phase, Strategy
from tlx.trees import flat
from tlx.types import Batch, Location, Variables
from tlx.weights.saved import load
from tlx.weights.statistics import recomputed
from tlx_strategies.inner_strategy import inner, needs_examples, needs_whole, set_up_inner

PARTS = ("backbone", "head")


def greedy_soup(
    runs: tuple[Location, ...],
    of: str = "finetune",
    of_options: Mapping[str, Any] | None = None,
    trust_code: bool = False,
) -> GreedySoup:
    """`of` with its options `of_options`, then the soup of this run's model and of those of `runs`:
    folders of finished runs from the same weights, with the same backbone, head, classes and
    validation split. With `trust_code` files of Python that these folders name are run, even if
    somebody else has written them."""
    return GreedySoup(inner(of, of_options, "greedy_soup"), tuple(runs), trust_code)


def _sample(folder: Path) -> dict[str, Any]:
    """Options for the conformance kit, in which there is no finished run."""
    return {"runs": ()}


greedy_soup.sample = _sample  # pyright: ignore[reportFunctionMemberAccess]  functions declare none


@final
@dataclass(frozen=True)
class GreedySoup:
    """`strategy`, and after it the greedy soup with the models of `runs`.

    Weights of backbone and head are averaged; running statistics of batch norm are computed anew
    (`tlx.weights.statistics`) for every average, while a model alone keeps its own."""

    strategy: Strategy
    runs: tuple[str, ...]
    trust_code: bool = False

    @property
    def whole_batch(self) -> str:
        """As the inner strategy."""
        return needs_whole(self.strategy)

    @property
    def smallest_batch(self) -> int:
        """As the inner strategy."""
        return needs_examples(self.strategy)

    def setup(
        self,
        *,
        model: Model,
        variables: Variables,
        batches: Callable[[], Iterable[Batch]],
        rng: Array,
    ) -> Strategy:
        """As the inner strategy."""
        return set_up_inner(self, model=model, variables=variables, batches=batches, rng=rng)

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """What the inner strategy has."""
        return self.strategy.init(rng, model, batch)

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """Those of the inner strategy."""
        return self.strategy.phases(model, steps)

    def finish(
        self,
        *,
        model: Model,
        start: Variables,
        variables: Variables,
        batches: Callable[[], Iterable[Batch]],
        score: Callable[[Variables], float],
    ) -> Finished:
        """The soup. Raises WeightsError for a run that holds another network."""
        candidates = {"this run": variables}
        candidates |= {
            run: _ingredient(run, model, variables, self.trust_code) for run in self.runs
        }
        scores = {name: score(candidate) for name, candidate in candidates.items()}
        # Stable: this run is the first of equals.
        name, *others = sorted(scores, key=lambda name: scores[name], reverse=True)
        best, soup, taken = scores[name], candidates[name], [name]
        for name in others:
            mixed = average([candidates[each] for each in (*taken, name)])
            mixed = recomputed(model, mixed, batches())
            reached = score(mixed)
            if reached >= best:
                best, soup = reached, mixed
                taken.append(name)
        return Finished(soup, f"greedy_soup: the average of {listed(taken)}.")


def average(ingredients: Sequence[Variables]) -> Variables:
    """The mean of backbone and head over several models; all else is the first's."""
    first = ingredients[0]
    mean = {
        part: jax.tree.map(
            lambda *leaves: sum(leaves) / len(leaves), *(each.params[part] for each in ingredients)
        )
        for part in PARTS
        if part in first.params
    }
    return Variables({**first.params, **mean}, first.state)


def _ingredient(
    run: str, model: Model, variables: Variables, trust_code: bool = False
) -> Variables:
    """A finished run's model in the place of this run's."""
    saved = load(run, trust_code=trust_code)
    for name in ("backbone", "head", "inputs"):
        ours, theirs = getattr(model, name), getattr(saved.model, name)
        if ours != theirs:
            raise WeightsError(
                f"runs: the {name} of {run} is {theirs}, and here it is {ours}. A soup is of "
                f"models that differ in nothing but their numbers."
            )
    here = _kept(variables)
    differing = {path: leaf.shape for path, leaf in flat(here).items()}.items() ^ {
        path: leaf.shape for path, leaf in flat(saved.variables).items()
    }.items()
    if differing:
        path, shape = min(differing)
        raise WeightsError(
            f"runs: {run} holds another network: only one of the two has a leaf {path!r} of shape "
            f"{shape}. A soup is of models with the same backbone, head and classes."
        )
    return Variables(
        {**variables.params, **saved.variables.params},
        {**variables.state, **saved.variables.state},
    )


def _kept(variables: Variables) -> Variables:
    """What a run saves of its variables."""
    return Variables(*({p: tree[p] for p in PARTS if p in tree} for tree in variables))
