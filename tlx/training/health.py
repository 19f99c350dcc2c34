"""Whether features that are learnt without labels are any good, while they are learnt.

A loss without labels can be low for features that are worth nothing. So at every evaluation the
features of some pictures are looked at themselves: how much they differ, how many dimensions they
use and, where there are labels, what their neighbours and a linear probe say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.assemble import Experiment
from tlx.contracts.calls import called
from tlx.data.shown import show_examples
from tlx.data.splits import Subset, shuffled
from tlx.devices import hosts
from tlx.devices.compiled import compiled
from tlx.devices.mesh import fetched
from tlx.feeding.feed import eval_batches
from tlx.model import Model
from tlx.numerics.knn import knn_classes
from tlx.numerics.linear_probe import linear_probe
from tlx.numerics.spread import feature_std, rankme
from tlx.protocols import SelfSupervised
from tlx.types import Batch, Features, FeatureSpec, Variables

FALLEN = 0.1
"""Features have collapsed that differ by less than this share of what they did at the start."""
IN_A_ROW = 2
"""Evaluations that have to agree before a run is stopped."""


class Seen(NamedTuple):
    """Some examples of a split as the network sees them: features (N,D), and labels (N,) where
    they are classes."""

    features: Array
    labels: np.ndarray | None


@final
@dataclass(frozen=True)
class Watch:
    """Looks at the features of up to `[health] examples` pictures of training and validation, the
    same ones every time and un-augmented."""

    experiment: Experiment
    train: Subset
    val: Subset

    def seen(self, variables: Variables, split: Subset) -> Seen:
        """What the network says of a split's pictures; `variables` are those that it runs with."""
        experiment, found, labels = self.experiment, [], []
        look = _look(experiment.model)
        for batch in eval_batches(experiment, split):
            counted = np.asarray(fetched(batch.weight)) > 0
            features = look(variables, batch)
            found.append(fetched(features)[counted])
            if (name := experiment.info.label) and experiment.info.classes:
                labels.append(np.asarray(fetched(batch.targets[name]))[counted])
        known = np.concatenate(labels) if labels else np.zeros(0)
        classes = known.ndim == 1 and np.issubdtype(known.dtype, np.integer)
        return Seen(jnp.concatenate(found), known if classes else None)

    def shown(self, split: Subset, rows: np.ndarray) -> list[np.ndarray | str]:
        """How some examples of a split look."""
        return show_examples(split, rows, self.experiment.model.ports, self.experiment.info)

    def measure(self, variables: Variables) -> dict[str, float]:
        """`feature_std` and `rankme` of validation pictures; `knn_accuracy` and `probe_accuracy`
        for them, learnt from training pictures, where there are labels."""
        train, val = self.seen(variables, self.train), self.seen(variables, self.val)
        found = {"feature_std": feature_std(val.features), "rankme": rankme(val.features)}
        if train.labels is not None and val.labels is not None:
            classes = len(self.experiment.info.classes)
            rows = train.features, jnp.asarray(train.labels), val.features
            votes = knn_classes(
                *rows, classes=classes, neighbours=self.experiment.config.health.neighbours
            )
            found["knn_accuracy"] = jnp.mean(votes == val.labels)
            found["probe_accuracy"] = jnp.mean(linear_probe(*rows, classes=classes) == val.labels)
        return {name: float(value) for name, value in hosts.agreed(found).items()}

    def begun(self, ledger: Mapping[str, Array], now: Mapping[str, float]) -> dict[str, Array]:
        """The ledger of a run that begins with features like these."""
        return {**ledger, "spread": jnp.float32(now["feature_std"]), "fallen": jnp.int32(0)}

    def followed(self, ledger: Mapping[str, Array], now: Mapping[str, float]) -> dict[str, Array]:
        """The ledger with how often in a row the features have been found to be all the same."""
        fallen = not now["feature_std"] > FALLEN * float(ledger["spread"])
        return {**ledger, "fallen": ledger["fallen"] + 1 if fallen else jnp.int32(0)}

    def verdict(self, ledger: Mapping[str, Array], now: Mapping[str, float]) -> str:
        """Which signs say that a run has collapsed and what to try; '' for one that goes on."""
        config, strategy = self.experiment.config, self.experiment.strategy
        if int(ledger["fallen"]) < IN_A_ROW or not config.health.stop:
            return ""
        text = (
            f"The features have collapsed: they are nearly the same for every picture. Their "
            f"deviation is {now['feature_std']:.2g}, it was {float(ledger['spread']):.2g} at the "
            f"start, and their effective rank (RankMe) is {now['rankme']:.1f}."
        )
        assert isinstance(strategy, SelfSupervised)
        with called(strategy, "strategy", "trivial"):
            trivial = strategy.trivial(config.batch_size)
        if trivial is not None:
            text += (
                f" The loss on validation is {now['loss']:.3f}, and {trivial:.3f} for features "
                f"without any content."
            )
        return (
            f"{text} Try a lower [optimizer] learning_rate, warmup, a larger batch_size, or a "
            f"strategy that holds features apart, such as 'vicreg'. With [health] stop = false it "
            f"goes on."
        )


def watch(experiment: Experiment) -> Watch | None:
    """What watches a run, None where it learns from labels or does not want it."""
    count = experiment.config.health.examples
    if not isinstance(experiment.strategy, SelfSupervised) or not count:
        return None
    parts = experiment.splits
    return Watch(experiment, _some(parts.train, count), _some(parts.val, count))


def representation(specs: tuple[FeatureSpec, ...], features: Features) -> Array:
    """What a network says of a picture as a whole, (B,D): its deepest vector, else the mean of its
    deepest map or tokens."""
    vectors = [spec.name for spec in specs if spec.kind == "vector"]
    whole = features[vectors[-1] if vectors else specs[-1].name]
    return whole.reshape(whole.shape[0], -1, whole.shape[-1]).mean(1).astype(jnp.float32)


@lru_cache(maxsize=4)
def _look(model: Model) -> Any:
    def look(variables: Variables, batch: Batch) -> Array:
        features, _ = model.features(variables, batch, rng=jax.random.key(0), mode="eval")
        return representation(model.backbone.features, features)

    return compiled(look)


def _some(split: Subset, count: int) -> Subset:
    chosen = np.sort(split.indices[shuffled(len(split), "health")[:count]])
    return replace(split, indices=chosen)
