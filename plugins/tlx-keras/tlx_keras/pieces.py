"""A Keras model in pieces that return named features.

In a Functional or Sequential model any layer's output can be a feature, and a feature through
which everything flows is a place to cut. Any other model is one piece and returns its features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from tlx.errors import ContractError, did_you_mean, listed
from tlx_keras.on_jax import keras

Piece: TypeAlias = Any
"""A `keras.Layer` that is called with the carry and `training`."""


def pieces(model: Any, features: tuple[str, ...], stages: tuple[str, ...]) -> tuple[Piece, ...]:
    """The model as one piece per stage, at least one; each returns the features that arise in it.

    Stage i ends with the feature of its name, the last one with the last feature. Raises
    ContractError for a feature that is no output and no layer, and for a stage that later layers
    look around."""
    if not graphed(model):
        if stages:
            raise ContractError(
                f"The Keras model {model.name!r} is no Functional or Sequential model, so it "
                f"cannot be cut into the stages {listed(stages)}."
            )
        return (model,)
    if len(model.inputs) > 1:
        raise ContractError(
            f"The Keras model {model.name!r} has {len(model.inputs)} inputs; a backbone reads one "
            "batch of pictures."
        )
    tensors = {name: _tensor(model, name) for name in features}
    ends = [features.index(_known(stage, features)) + 1 for stage in stages[:-1]]
    if ends != sorted(ends):
        raise ContractError(f"The stages {listed(stages)} are not in the order of the features.")
    (carry,), found, start = model.inputs, [], 0
    for stop in (*ends, len(features)):
        own = {name: tensors[name] for name in features[start:stop]}
        found.append(_piece(carry, own, stages))
        start, carry = stop, tensors[features[stop - 1]]
    return tuple(found)


def graphed(model: Any) -> bool:
    """Whether Keras knows the model as a graph of layers (Functional, or a built Sequential)."""
    return bool(getattr(model, "outputs", None))


def _piece(inputs: Any, outputs: Mapping[str, Any], stages: tuple[str, ...]) -> Piece:
    try:
        return keras.Model(inputs, dict(outputs))
    except ValueError as error:
        raise ContractError(
            f"The Keras model cannot be cut into the stages {listed(stages)}: to compute "
            f"{listed(outputs)} it needs more than the feature where the stage before ends. "
            f"({error})"
        ) from error


def _known(stage: str, features: tuple[str, ...]) -> str:
    if stage not in features:
        raise ContractError(
            f"The stage {stage!r} is none of the features {listed(features)}: a stage ends with "
            f"the feature of its name.{did_you_mean(stage, features)}"
        )
    return stage


def _tensor(model: Any, name: str) -> Any:
    """The output of this name, or what the layer of this name returns when it is first
    called."""
    outputs = {} if isinstance(model, keras.Sequential) else model.output
    if isinstance(outputs, Mapping) and name in outputs:
        return outputs[name]
    graph = keras.Model(model.inputs, model.outputs)  # a Sequential does not show its own
    layers = {operation.name: operation.output for operation in graph.operations}
    if name in layers:
        return layers[name]
    known = [*(outputs if isinstance(outputs, Mapping) else ()), *layers]
    raise ContractError(
        f"The Keras model {model.name!r} has no output and no layer {name!r}."
        f"{did_you_mean(name, known)} It has {listed(known)}."
    )
