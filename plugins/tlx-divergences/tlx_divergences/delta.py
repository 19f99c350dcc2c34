"""DELTA: hold the features that matter, leave the others free.

The features of the target's pictures stay where the source has them, each channel as firmly as
the new task would miss it. What that is, the source's own body says before training begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import jax
import jax.numpy as jnp
from jax import Array

from tlx.errors import ConfigError, listed
from tlx.model import Model
from tlx.types import Batch, Features, Network, Variables
from tlx_divergences.channel_attention import (
    Site,
    attention,
    fitted_head,
    losses_without,
    observed,
    sites,
)
from tlx_divergences.named import pair
from tlx_divergences.pairing import channels


@final
@dataclass(frozen=True)
class Delta:
    """Mean over features j and examples of Σ_c a_jc · ½ mean (f_jc − f⁰_jc)², the inner mean over
    positions; Σ_c a_jc = 1, so without attention, a = 1/C, it is `feature_l2`.

    f are the current features and f⁰ the source's of the same pictures. Li et al. 2019 (DELTA,
    arXiv:1901.09229, section 3.2 and 3.3) sum over features, examples and positions; their code
    takes the mean over positions and C · a for a. The paper adds weight decay on the head.

    a_j = softmax(z/5), where z is the standard score of the loss without channel c. It is measured
    once, before the first step: a head of the run's own kind is fitted to the training examples on
    the source's body, then each channel of f⁰_j is set to zero. The paper removes filters; here it
    is the feature's channel, behind whatever norm, sum and rectifier make it up. This takes
    features that pass from one stage to the next, or that the head reads, itself or its mean over
    positions.

    Args:
        features: their names; by default all such maps and tokens.
        attention: weigh channels by what the task misses; false weighs them alike.
        examples: measure losses on at most so many training examples, drawn at random.
        penalty: times ½ ‖w‖² is added to the mean loss that the head is fitted by.
    """

    features: tuple[str, ...] = ()
    attention: bool = True
    examples: int = 1024
    penalty: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if self.examples < 1:
            raise ConfigError(
                f"examples counts what the attention of delta is measured on and must be 1 or "
                f"more, not {self.examples}."
            )
        if not self.penalty >= 0:
            raise ConfigError(
                f"penalty weighs the fitted head's parameters and must be 0 or more, not "
                f"{self.penalty}."
            )

    @property
    def reads(self) -> tuple[str, ...] | None:
        """The features named; by default they are the network's."""
        return self.features or None

    def prepare(
        self,
        *,
        model: Model,
        variables: Variables,
        source: Network | None,
        batches: Iterable[Batch],
        rng: Array,
    ) -> dict[str, Array]:
        """The attention (C,) of each feature by name. Raises ConfigError for a feature that the
        source does not have or whose channels cannot be set to zero one by one, and for a model
        without head."""
        assert source is not None  # it asks for `source_features`
        model, numbers = replace(source.model, head=model.head, frozen=0), source.variables
        if not self.attention:
            places = self._places(model, numbers, next(iter(batches)))
            return {site.name: jnp.full(site.channels, 1 / site.channels) for site in places}
        if model.head is None:
            raise ConfigError(
                "delta weighs channels by what the head's task misses, and this model has no head. "
                "Set attention = false."
            )
        seen, drawn = observed(model, numbers, batches, self.examples, rng)
        places = self._places(model, numbers, drawn[0])
        top = fitted_head(model.head, seen, self.penalty, rng)
        numbers = Variables(
            {"backbone": numbers.params["backbone"], "head": top.params},
            {"backbone": numbers.state["backbone"], "head": top.state},
        )

        @jax.jit
        def measure(numbers: Variables, batch: Batch) -> dict[str, Array]:
            return losses_without(model, numbers, batch, places)

        losses = [measure(numbers, batch) for batch in drawn]
        count = sum(float(batch.weight.sum()) for batch in drawn)
        total = jax.tree.map(lambda *parts: sum(parts) / count, *losses)
        return {name: attention(each) for name, each in total.items()}

    def _places(self, model: Model, numbers: Variables, batch: Batch) -> tuple[Site, ...]:
        """The features to hold. Two pictures tell what can be set to zero."""
        named = {name: channels(model, name, "delta", " of the source") for name in self.features}
        if named and not self.attention:
            return tuple(Site(name, count, 0, ()) for name, count in named.items())
        few = jax.tree.map(lambda leaf: leaf[:2], batch)
        found = sites(model, numbers, few)
        vectors = {spec.name for spec in model.backbone.features if spec.kind == "vector"}
        names = tuple(named) or tuple(name for name in found if name not in vectors)
        refused = [name for name in names if name not in found]
        if refused or not names:
            what = listed(map(repr, refused), "any map or tokens")
            raise ConfigError(
                f"delta cannot set channels of {what} to zero one by one: it has to pass from one "
                f"stage of the backbone to the next, or be what the head reads, itself or its mean "
                f"over positions. Choose from {listed(found)} in `features`, or set "
                f"attention = false."
            )
        return tuple(found[name] for name in names)

    def __call__(
        self, *, features: Features, source_features: Features, prepared: dict[str, Array]
    ) -> Array:
        """A scalar; 0 at the source. Raises ConfigError for a feature that is missing or has
        another shape in the source."""
        total = jnp.zeros(())
        for name, weights in prepared.items():
            now, then = pair(features, source_features, name, "delta")
            apart = jnp.square(now - then).mean(tuple(range(now.ndim - 1)))
            total = total + jnp.vdot(weights, apart) / 2
        return total / len(prepared)
