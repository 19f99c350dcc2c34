"""L2-SP-Fisher: L2-SP in which each weight is held as much as the source needs it.

It is EWC for transfer: the same pull on the shared weights, and decay of the new head beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from jax import Array

from tlx.model import Model
from tlx.types import Batch, Network, Params, Variables
from tlx_divergences.ewc import EWC
from tlx_divergences.fisher import Labels
from tlx_divergences.starting_point import checked_head, new_layers


@final
@dataclass(frozen=True)
class L2SPFisher:
    """½ Σ F_jj (w_j − w⁰_j)² + head · ½ ‖w_new‖², as a sum over parameters.

    w are the backbone's parameters, w⁰ the source's, w_new the head's, F_jj the diagonal of the
    source's Fisher information. Times the run's weight this is the penalty of Li, Grandvalet and
    Davoine 2018 (arXiv:1802.01483, section 3) with α = weight and β = weight · head; without
    `head` it is `ewc`. The paper sums over the source's classes by their probability
    (`labels = "exact"`) on the source's data. Those are not here: F is of the source with its own
    head on the target's training pictures, not augmented, computed once before the first step.

    Args:
        head: weight of the second term relative to the first; 0 leaves the head free.
        labels: as in `ewc`: `model`, `exact` or `empirical`.
        samples: how many labels `model` draws per picture.
        chunk: how many pictures' gradients are in memory at once.
        normalised: divide F by its mean, so that one `weight` suits this and `l2_sp` alike.
    """

    head: float = 0.0
    labels: Labels = "model"
    samples: int = 1
    chunk: int = 4
    normalised: bool = False

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        checked_head(self.head)
        self._ewc()

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
        return self._ewc().prepare(
            model=model, variables=variables, source=source, batches=batches, rng=rng
        )

    def __call__(
        self, *, params: Params, head_params: Params, source_params: Params, prepared: Params
    ) -> Array:
        """A scalar; 0 at the source (with `head` 0). Raises ConfigError for a weight on the head
        of a model that has none."""
        held = self._ewc()(params=params, source_params=source_params, prepared=prepared)
        return held + new_layers(self.head, head_params, "l2_sp_fisher")

    def _ewc(self) -> EWC:
        return EWC(self.labels, self.samples, self.chunk, self.normalised)
