"""The networks of `keras.applications` as backbones, by name: `backbone = "keras:MobileNetV2"`.

They come without their classifier and without weights, which are loaded like any others. Features
and stages are found in the network itself, preprocessing in Keras' own function for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tlx.errors import ConfigError, did_you_mean, listed
from tlx_keras.keras_backbone import KerasBackbone, wrap_keras
from tlx_keras.on_jax import keras
from tlx_keras.preprocessing import input_spec
from tlx_keras.strides import last_of_each_stride, narrow
from tlx_keras.structure import apart

POOLED = "pooled"
USUAL = 224
"""Pixels, for a network that was published for any size."""
_OURS = (
    "include_top",
    "weights",
    "input_shape",
    "input_tensor",
    "pooling",
    "classes",
    "classifier_activation",
    "name",
)
"""Arguments of the functions in `keras.applications` that are said otherwise here."""


def application(
    name: str,
    size: int = 0,
    features: tuple[str, ...] = (),
    channels: int = 3,
    arguments: dict[str, float | int | bool | str] = {},  # noqa: B006  never changed
) -> KerasBackbone:
    """A network of `keras.applications` as a Backbone.

    Args:
        name: as Keras calls it, such as `MobileNetV2`.
        size: height and width of its pictures; 0 for the size it was published with.
        features: names of layers, shallow to deep, and `pooled`, the mean of the last map. By
            default the last map of each stride through which everything flows, and `pooled`.
        channels: 3, or 1 for grey pictures.
        arguments: further ones for Keras' function, such as `{alpha = 0.35}`.

    Each map through which everything flows ends a stage. Raises ConfigError for a name, a layer
    or an argument that Keras does not have."""
    function = _function(name)
    _check(function, channels, arguments)
    if keras.config.image_data_format() != "channels_last":
        raise ConfigError(
            "Keras is set to 'channels_first' (in its keras.json), and tlx has channels last. "
            "Set image_data_format to 'channels_last' there."
        )
    size = size or apart(lambda _: function(weights=None, **arguments).input_shape[1]) or USUAL
    options = {
        "name": name,
        "size": size,
        "channels": channels,
        "arguments": tuple(sorted(arguments.items())),
    }
    maps, cuts = apart(lambda _: _places(network(**options)))
    features = tuple(features) or (*maps, POOLED)
    ends = [feature for feature in features if feature in cuts - {POOLED}]
    # Pooling has no weights, so after the last map it is no stage of its own.
    if (ends[-1:], features[-1]) != ([maps[-1]], POOLED) and ends[-1:] != [features[-1]]:
        ends.append(features[-1])
    module = function.__module__.rpartition(".")[2]
    preprocess = getattr(keras.applications, module).preprocess_input
    inputs = input_spec(preprocess, (size, size), channels)
    return wrap_keras(network, features, inputs, options=options, stages=tuple(ends))


def _sample(folder: Path) -> dict[str, Any]:
    """Options for the conformance kit: the first layers of a small network."""
    return {
        "name": "MobileNet",
        "size": 32,
        "features": ("conv_pw_1_relu", "conv_pw_3_relu"),
        "arguments": {"alpha": 0.25},
    }


application.sample = _sample  # pyright: ignore[reportFunctionMemberAccess]  functions declare none


def network(name: str, size: int, channels: int, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """The Keras model, without classifier and with a last layer `pooled`."""
    try:
        whole = getattr(keras.applications, name)(
            include_top=False,
            weights=None,
            input_shape=(size, size, channels),
            **dict(arguments),
        )
    except ValueError as error:
        raise ConfigError(f"keras.applications.{name} refused its options: {error}") from error
    return keras.Model(whole.input, keras.layers.GlobalAveragePooling2D(name=POOLED)(whole.output))


def _places(model: Any) -> tuple[tuple[str, ...], frozenset[str]]:
    return last_of_each_stride(model), frozenset(each.name for each in narrow(model))


def _function(name: str) -> Callable[..., Any]:
    known = [each for each in dir(keras.applications) if each[0].isupper()]
    if name not in known:
        raise ConfigError(
            f"keras.applications has no {name!r}.{did_you_mean(name, known)} It has "
            f"{listed(known)}."
        )
    return getattr(keras.applications, name)


def _check(function: Callable[..., Any], channels: int, arguments: Mapping[str, Any]) -> None:
    known = [each for each in inspect.signature(function).parameters if each not in _OURS]
    for argument in arguments:
        if argument not in known:
            raise ConfigError(
                f"keras.applications.{function.__name__} has no argument {argument!r} to set here."
                f"{did_you_mean(argument, known)} It has {listed(known)}."
            )
    if channels not in (1, 3):
        raise ConfigError(f"`channels` is {channels}; pictures have 3 channels, or 1 where grey.")
