"""EWC: the distance of the weights from the source's, each weighed by how much the source needs it.

Elastic weight consolidation keeps the weights that the source's answers hang on and frees the
others, where L2-SP holds all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.model import Model
from tlx.types import Batch, Network, Params, Variables
from tlx_divergences.fisher import Fisher, Labels
from tlx_divergences.squares import summed
from tlx_divergences.starting_point import moved


@final
@dataclass(frozen=True)
class EWC:
    """½ Σ F_i (w_i − w⁰_i)², as a sum over the backbone's parameters.

    w⁰ are the source's and F_i is the diagonal of its Fisher information. Times the run's weight λ
    this is the penalty of Kirkpatrick et al. 2017 (arXiv:1612.00796, equation 3). They take F on
    the data of the old task. Those are not here: F is of the source with its own head on the
    target's training pictures, not augmented, computed once before the first step. So it says
    what the source's answers to the target's pictures need.

    Args:
        labels: `model` for labels drawn from the source's answers (the Fisher information),
            `exact` for the sum over its classes, a backward pass for each (the same, without
            noise), `empirical` for those of the data (the empirical Fisher), which takes a source
            with the same classes in the same order; only their number can be checked.
        samples: how many labels `model` draws per picture.
        chunk: how many pictures' gradients, each as large as the backbone, are in memory at once.
        normalised: divide F by its mean, so that one `weight` suits this and `l2_sp` alike. F
            itself depends on how sure the source is and may be very small.
    """

    labels: Labels = "model"
    samples: int = 1
    chunk: int = 4
    normalised: bool = False

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        self._fisher()

    @property
    def reads(self) -> tuple[str, ...]:
        """Only what the heads read."""
        return ()

    def prepare(
        self,
        *,
        model: Model,
        variables: Variables,
        source: Network | None,
        batches: Iterable[Batch],
        rng: Array,
    ) -> Params:
        """F, like the backbone's parameters; raises as `Fisher.prepare` does."""
        return self._fisher().prepare(
            model=model, variables=variables, source=source, batches=batches, rng=rng
        )

    def __call__(self, *, params: Params, source_params: Params, prepared: Params) -> Array:
        """A scalar; 0 at the source."""
        weighed = jax.tree.map(
            lambda f, step: f * jnp.square(step), prepared, moved(params, source_params)
        )
        return summed(lambda x: x, weighed) / 2

    def _fisher(self) -> Fisher:
        return Fisher(self.labels, self.samples, self.chunk, self.normalised)
