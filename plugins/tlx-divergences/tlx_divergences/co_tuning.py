"""Co-Tuning: the source's head is to name the source classes that each label looks like.

Fine-tuning throws the source's head away and with it what its classes know. Here every target
label is translated into probabilities of the source's classes, once and from the source's own
answers, and the source's head on the current features is asked to give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.devices.compiled import compiled
from tlx.errors import ConfigError, did_you_mean, listed
from tlx.model import Model
from tlx.types import Batch, Network, Variables
from tlx_divergences.category_relationship import direct_relationship, reverse_relationship
from tlx_divergences.logits import log_probabilities, require_temperature

Relation = Literal["reverse", "direct"]


@final
@dataclass(frozen=True)
class CoTuning:
    """−Σ_s p(y_s | y_t) log softmax(z_S)_s in nats, mean per example.

    z_S are the logits of the source's head on the current features, y_t the label. From You, Kou,
    Long and Wang 2020 (Co-Tuning for Transfer Learning, NeurIPS), whose code weighs it 2.3. A
    cross-entropy: its least value is the mean entropy of p(y_s | y_t), not 0. Here the source's
    head stays as it was loaded and only the backbone is moved; in the paper it is trained along.

    Args:
        relation: how p(y_s | y_t) is found: 'direct' averages the source's probabilities over the
            pictures of a class; 'reverse', which the paper recommends, learns p(y_t | y_s) and
            applies Bayes' rule. It wants two or more pictures a class.
        temperature: of the source's probabilities from which the relation is found. The authors
            calibrate it on the source's own data; their ImageNet ResNet-50 has 1 / 0.884.
    """

    relation: Relation = "reverse"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown relation and a temperature that is not above 0."""
        known = get_args(Relation)
        if self.relation not in known:
            raise ConfigError(
                f"co_tuning finds its relation by one of: {listed(known)}; not by "
                f"{self.relation!r}.{did_you_mean(self.relation, known)}"
            )
        require_temperature(self.temperature)

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
    ) -> Mapping[str, Array]:
        """`relation` (Ct,Cs), every row adds up to 1: p(y_s | y_t) of the training pictures.
        Raises ConfigError where a head is missing or a picture has not one label."""
        assert source is not None, "it asks for source_head_outputs"
        believed = compiled(partial(_believed, source.model, "the source's", self.temperature))
        answered = partial(_believed, model, "the model's", 1.0)
        probabilities, labels, classes = [], [], 0
        for batch in batches:
            real = np.asarray(batch.weight) > 0
            seen = believed(source.variables, batch)
            classes = jax.eval_shape(answered, variables, batch).shape[-1]
            labels.append(_one_label_each(batch, seen)[real])
            probabilities.append(np.asarray(seen)[real])
        find = direct_relationship if self.relation == "direct" else reverse_relationship
        everything = jnp.concatenate(probabilities), jnp.concatenate(labels)
        return {"relation": find(*everything, classes)}

    def __call__(
        self, *, source_head_outputs: Array, prepared: Mapping[str, Array], batch: Batch
    ) -> Array:
        """A scalar for logits (B,Cs) of the source's head and `batch.targets["label"]` (B,). Raises
        ConfigError where the source has no head or a picture has not one label."""
        log_p = log_probabilities(source_head_outputs, "co_tuning", "the source's")
        wanted = prepared["relation"][_one_label_each(batch, log_p)]
        return -jnp.sum(wanted * log_p, -1).mean()


def _believed(
    model: Model, whose: str, temperature: float, variables: Variables, batch: Batch
) -> Array:
    """The probabilities (B,C) that a network gives to its classes, without chance; the key is
    there because the contract has one."""
    seen = batch._replace(targets={})
    logits = model.apply(variables, seen, rng=jax.random.key(0), mode="eval").outputs
    return jnp.exp(log_probabilities(logits, "co_tuning", whose, temperature))


def _one_label_each(batch: Batch, probabilities: Array) -> Array:
    """The labels (B,) of a batch; ConfigError where they are not one class number a picture."""
    label = batch.targets.get("label")
    fits = probabilities.ndim == 2 and label is not None and label.shape == probabilities.shape[:1]
    if label is None or not fits or not jnp.issubdtype(label.dtype, jnp.integer):
        seen = "there is none" if label is None else f"labels are {label.dtype}{label.shape}"
        raise ConfigError(
            f"co_tuning needs one class number a picture (B,) and source-head logits (B,C); "
            f"here {seen} and the source's head gives {probabilities.shape}."
        )
    return label
