"""WiSE-FT: halfway back from the fine-tuned to the source's weights.

theta = (1 - alpha) theta⁰ + alpha theta¹ for the backbone (Wortsman et al. 2022, 'Robust
fine-tuning of zero-shot models', arXiv:2109.01903, section 3): most of what was gained on the
target stays, and much of what was forgotten comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import jax
import numpy as np
from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Finished, Phase, Strategy
from tlx.types import Batch, Params, Variables
from tlx.weights.statistics import recomputed
from tlx_strategies.inner_strategy import inner, needs_examples, needs_whole, set_up_inner

ALPHAS = tuple(np.linspace(0, 1, 11).round(1).tolist())
"""From among these the validation split chooses; section 4 of the paper has the same."""


def wise_ft(
    of: str = "finetune",
    of_options: Mapping[str, Any] | None = None,
    alpha: float | None = None,
    head: bool = False,
) -> WiseFT:
    """`of` with its options `of_options`, then the backbone between start and end.

    `alpha` is the share of the trained weights, from 0 to 1; without one the validation split
    chooses among 0, 0.1, ..., 1. `head` averages the head as well, which makes sense where it
    started as one that fits (weights with head = "keep"); a new head stays as trained."""
    if alpha is not None and not 0 <= alpha <= 1:
        raise ConfigError(
            f"alpha is the share of the trained weights, from 0 (the source) to 1, not {alpha}."
        )
    return WiseFT(inner(of, of_options, "wise_ft"), ALPHAS if alpha is None else (alpha,), head)


@final
@dataclass(frozen=True)
class WiseFT:
    """`strategy`, and after it the one of `alphas` that does best on validation.

    Running statistics of batch norm are computed anew for each (`tlx.weights.statistics`), except
    for alpha = 1, the trained model as it is. Of equals the one nearest to 0.5 is taken, which the
    paper recommends where there is nothing to choose by."""

    strategy: Strategy
    alphas: tuple[float, ...] = ALPHAS
    head: bool = False

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
        """The best point between `start` and `variables`."""

        def at(alpha: float) -> Variables:
            if alpha == 1:
                return variables
            params = self._between(start.params, variables.params, alpha)
            return recomputed(model, Variables(params, variables.state), batches())

        if len(self.alphas) == 1:
            return Finished(at(self.alphas[0]))
        tried = sorted(self.alphas, key=lambda alpha: abs(alpha - 0.5))
        scored = ((score(found), alpha, found) for alpha in tried for found in (at(alpha),))
        _, alpha, best = max(scored, key=lambda each: each[0])
        return Finished(best, f"wise_ft: alpha = {alpha:g} chosen of {len(tried)} on validation.")

    def _between(self, start: Params, end: Params, alpha: float) -> Params:
        parts = [part for part in ("backbone", "head") if part in end]
        mixed = {
            # Written so that a leaf that did not move stays to the last bit.
            part: jax.tree.map(lambda a, b: a + alpha * (b - a), start[part], end[part])
            for part in (parts if self.head else parts[:1])
        }
        return {**end, **mixed}
