"""A Keras model as nothing but structure: what it computes and which variables it has.

It is built in a thread of its own. What Keras counts (`conv2d_3`) and remembers it keeps per
thread, so the same configuration gets the same names however many models were made before, and
the user's session is left alone. Inside of a `StatelessScope` no variable is given a value:
values travel beside the structure, as they do everywhere in tlx.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from jax import Array
from tlx_image import ImageInput

from tlx.errors import ContractError
from tlx_keras.on_jax import keras
from tlx_keras.pieces import Piece, pieces

T = TypeVar("T")
_COUNTED = (keras.layers.BatchNormalization, keras.layers.Normalization)
"""Layers that are known to leave their statistics alone when they are told to."""


class Structure(NamedTuple):
    """`params` and `state` by leaf path, `random` streams, all of them without values; `given`
    are the values of variables that were assigned while building (a model that was loaded).

    `pieces` run one after the other; `stage` says which one a parameter belongs to. `tunes` is
    whether all running statistics can be held still while dropout is on."""

    pieces: tuple[Piece, ...]
    params: dict[str, Any]
    state: dict[str, Any]
    random: tuple[Any, ...]
    given: Mapping[str, Array]
    stage: Mapping[str, str]
    seeds: Any
    tunes: bool


def structure(
    build: Callable[..., Any],
    options: Mapping[str, Any],
    features: tuple[str, ...],
    stages: tuple[str, ...],
    inputs: ImageInput,
    *,
    still: bool = False,
) -> Structure:
    """Build the model `build(**options)` and take it apart; `still` holds the running statistics
    of its batch norms. Raises ContractError where it cannot be built without values."""

    def make(scope: Any) -> Structure:
        try:
            return _taken_apart(build(**options), features, stages, inputs, still, scope)
        except ValueError as error:
            if "stateless scope" not in str(error):
                raise
            raise ContractError(
                "The Keras model makes a variable from numbers instead of an initializer. Make it "
                "with `self.add_weight(shape=..., initializer=...)`, and load a model with "
                "`compile=False`."
            ) from error

    return apart(make)


def apart(make: Callable[[Any], T]) -> T:
    """What `make` returns, with Keras' counters at zero and no variable given a value.

    It is called with the scope that knows what was assigned to variables nevertheless."""

    def scoped() -> T:
        with keras.StatelessScope(initialize_variables=False) as scope:
            return make(scope)

    with ThreadPoolExecutor(1) as fresh:
        return fresh.submit(scoped).result()


def _taken_apart(
    model: Any,
    features: tuple[str, ...],
    stages: tuple[str, ...],
    inputs: ImageInput,
    still: bool,
    scope: Any,
) -> Structure:
    if not isinstance(model, keras.Layer):
        raise ContractError(
            f"The function that builds the Keras model returned a {type(model).__name__}; it must "
            "return a keras.Model or a keras.Layer."
        )
    if not model.built:
        model(keras.Input((*(inputs.size or (None, None)), inputs.channels)))
    run = pieces(model, features, stages)
    stage = {}
    for name, piece in zip(stages or features, run, strict=False):
        for variable in piece.trainable_variables:
            stage.setdefault(id(variable), name)
    every = {id(v): v for piece in run for v in piece.variables}
    weights = {id(v) for piece in run for v in piece.weights}
    paths = _paths({key: v.path for key, v in every.items() if key in weights}, model.name)
    trained = {id(v) for piece in run for v in piece.trainable_variables}
    layers = [layer for piece in run for layer in piece._flatten_layers()]
    counted = [layer for layer in layers if isinstance(layer, _COUNTED) or not layer.trainable]
    known = {id(v) for layer in counted for v in layer.variables}
    found = Structure(
        run,
        {path: every[key] for key, path in paths.items() if key in trained},
        {path: every[key] for key, path in paths.items() if key not in trained},
        tuple(v for key, v in every.items() if key not in weights),
        {
            path: value
            for key, path in paths.items()
            if (value := scope.get_current_value(every[key])) is not None
        },
        {path: stage[key] for key, path in paths.items() if key in trained},
        keras.random.SeedGenerator(0),
        weights - trained <= known,
    )
    for layer in layers:
        # Keras' own word for "use the running statistics, even while training".
        if still and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    return found


def _paths(paths: dict[int, str], model: str) -> dict[int, str]:
    """Leaf paths such as `conv1/kernel`, without the model's own name where all begin with it."""
    if all(path.startswith(f"{model}/") for path in paths.values()):
        paths = {key: path.removeprefix(f"{model}/") for key, path in paths.items()}
    twice = [path for path, count in Counter(paths.values()).items() if count > 1]
    if twice:
        raise ContractError(
            f"The Keras model has {len(twice)} names that two variables share, such as "
            f"{twice[0]!r}. Give the layers names of their own."
        )
    return paths
