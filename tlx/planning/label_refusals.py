"""Labels that do not fit the head of a run, said before the first step.

A label of another kind stops a run when it is traced at the latest, or trains without complaint and
means nothing: a regression on the numbers of classes is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from tlx.contracts.calls import called
from tlx.contracts.file_facts import head_of
from tlx.data.splits import are_classes
from tlx.data.targets import fitted_head, kind_of
from tlx.errors import ConfigError, DataError, listed
from tlx.model import Model
from tlx.objective import Term
from tlx.planning import known_features, preparations
from tlx.protocols import SelfSupervised, Strategy, WeightSource
from tlx.run_file.run_config import Part
from tlx.types import Batch, DataInfo, Features, LabelKind, Variables
from tlx.weights.sources import Source

MEANS = {
    "class": "one class for each example",
    "multilabel": "0 or 1 for every class of each example",
    "number": "real numbers",
}
UNITS = ("mean", "std")
"""Options of a head that say what its outputs are multiples of."""
HEADS = {"class": "softmax", "multilabel": "multilabel", "number": "regression"}


def fitted(head: Part, info: DataInfo, labels: np.ndarray, kept: Any = None) -> Part:
    """The head with what the labels of the training split say of it, where they fit it; `kept` as
    for `fitted_head`."""
    refuse_labels(head, info, labels)
    refuse_same(info, labels)
    return fitted_head(head, info, labels, kept)


def refuse_labels(head: Part, info: DataInfo, labels: np.ndarray) -> None:
    """The labels are what the head takes them for. Raises ConfigError, with the head that takes
    them as they are."""
    kind = kind_of(head)
    shape, whole = labels.shape[1:], np.issubdtype(labels.dtype, np.integer)
    found: dict[LabelKind, bool] = {
        "class": are_classes(labels, info.classes),
        "multilabel": whole and shape == (len(info.classes),) and bool(info.classes),
        "number": not info.classes and labels.ndim < 3,
    }
    if kind is None or found[kind]:
        return
    they_are: LabelKind | None = next((each for each, yes in found.items() if yes), None)
    says = MEANS[they_are] if they_are else f"{labels.dtype} of shape {labels.shape}"
    if they_are == "class":
        says += f" ({listed([*info.classes[:4], *['...'][: len(info.classes) > 4]])})"
    use = f"Use a head for these, such as {HEADS[they_are]!r}, or give" if they_are else "Give"
    raise ConfigError(
        f"The head {head.name!r} takes {MEANS[kind]}, and the labels of {info.name!r} are {says}. "
        f"{use} other labels."
    )


def refuse_shapes(strategy: Strategy, model: Model, shapes: Variables, batch: Batch) -> None:
    """The head can judge such a batch: what it would raise in the first step is raised here."""
    if model.head is None or isinstance(strategy, SelfSupervised):
        return

    if model.extension is not None:
        begun = partial(preparations.begun, type(strategy).__name__, strategy, model)
        shapes = jax.eval_shape(begun, shapes, batch, jax.random.key(0))
    features = known_features.shapes(model, shapes, batch)
    frozen = model.bare.with_frozen(model.depth, model.norm)

    def judged(variables: Variables, batch: Batch, features: Features) -> Any:
        fed, key = known_features.fed(batch, features), jax.random.key(0)
        passed = frozen.apply(variables, fed, rng=key, mode="eval")
        assert model.head is not None
        with called(model.head, "head", "measure", {"batch": batch}):
            return model.head.measure(passed.outputs, batch)

    jax.eval_shape(judged, shapes, batch, features)


def refuse_same(info: DataInfo, labels: np.ndarray) -> None:
    """There is something to learn from numbers. Raises DataError where all are the same."""
    if not info.classes and len(labels) > 1 and (labels == labels[0]).all():
        raise DataError(
            f"Every target of {info.name!r} that is trained on is {labels[0]}, so there is nothing "
            f"to learn."
        )


def refuse_other_units(
    terms: Sequence[Term],
    words: Mapping[str, frozenset[str]],
    head: Part | None,
    weights: WeightSource | None,
    named: Mapping[str, Source],
) -> None:
    """Outputs of a regression and of a source are compared in the same units. Raises ConfigError
    with those of the source."""
    own = {key: _numbers((head.options if head else {}).get(key)) for key in UNITS}
    for term in terms:
        compared = {"outputs", "source_outputs"} <= words[term.name]
        if not compared or head is None or kind_of(head) != "number":
            continue
        if term.source == "source":
            about = head_of(weights)
            theirs = {key: _numbers((about[1] if about else {}).get(key)) for key in UNITS}
        else:
            theirs = {k: _numbers(getattr(named[term.source].model.head, k, None)) for k in UNITS}
        if own != theirs:
            ours, other = (
                ", ".join(f"{key} {list(of[key]) or 'unknown'}" for key in UNITS)
                for of in (own, theirs)
            )
            raise ConfigError(
                f"Divergence {term.name!r} compares outputs in different units: the source has "
                f"{other}, this run {ours}. Give the [head] of this run the source's mean and std, "
                f"or use a divergence of features or parameters."
            )


def _numbers(value: Any) -> tuple[float, ...]:
    return () if value is None else tuple(np.ravel(value).tolist())
