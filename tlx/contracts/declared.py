"""What a plugin says of itself is of the kind that its contract names.

It is read long before anything runs, and a number of the wrong kind in it would come out somewhere
else. Each function gives what is wrong in words, '' for nothing. Opens without importing jax.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, get_args

from tlx.contracts.calls import where
from tlx.contracts.phase import Phase
from tlx.types import (
    DataInfo,
    FeatureKind,
    FeatureSpec,
    InputSpec,
    Interpolation,
    NormPolicy,
    Tensors,
)


def fault_of_inputs(inputs: Any) -> str:
    """Of how a network wants its pictures."""
    if not isinstance(inputs, InputSpec):
        return f"it has to be a tlx.types.InputSpec, not a {type(inputs).__name__}"
    sides = () if inputs.size is None else inputs.size
    if not (isinstance(sides, tuple | list) and len(sides) in (0, 2) and all(map(_counts, sides))):
        return f"its size is {inputs.size!r}, and has to be (height, width) in pixels, or None"
    if not _counts(inputs.channels):
        return f"its channels are {inputs.channels!r}, and have to be a whole number from 1 on"
    for name in ("mean", "std"):
        values = getattr(inputs, name)
        if not (isinstance(values, tuple | list) and all(map(_measures, values))):
            return f"its {name} is {values!r}, and has to be a tuple of numbers, one a channel"
    if not (_measures(inputs.scale) and _measures(inputs.crop) and inputs.crop > 0):
        return f"its scale is {inputs.scale!r} and its crop {inputs.crop!r}: numbers, crop above 0"
    if inputs.order not in ("rgb", "bgr") or inputs.interpolation not in get_args(Interpolation):
        return f"its order is {inputs.order!r} and its interpolation {inputs.interpolation!r}"
    return ""


def fault_of_features(features: Any) -> str:
    """Of the features that a network has."""
    fine = isinstance(features, tuple | list) and all(isinstance(f, FeatureSpec) for f in features)
    if not fine or not features:
        return f"they have to be a tuple of tlx.types.FeatureSpec, not {_shown(features)}"
    for spec in features:
        if not (isinstance(spec.name, str) and spec.kind in get_args(FeatureKind)):
            return f"{spec} has to begin with a name and one of {get_args(FeatureKind)}"
        if not _counts(spec.channels):
            return f"{spec.name!r} has {spec.channels!r} channels, and has to have a whole number"
    return ""


def fault_of_phase(phase: Any) -> str:
    """Of a phase of a strategy."""
    if not isinstance(phase, Phase):
        return f"each has to be a tlx.protocols.Phase, not {_shown(phase)}"
    if not (isinstance(phase.name, str) and _counts_from_0(phase.steps)):
        return f"name and steps are {phase.name!r} and {phase.steps!r}: text, and a whole number"
    if not (isinstance(phase.lr, Mapping) and all(map(_measures, phase.lr.values()))):
        return f"`lr` of {phase.name!r} is {_shown(phase.lr)}, and has to have a number a group"
    if phase.norm not in get_args(NormPolicy):
        return (
            f"`norm` of {phase.name!r} is {_shown(phase.norm)}, not one of {get_args(NormPolicy)}"
        )
    if not (isinstance(phase.reads, tuple | list) and all(isinstance(n, str) for n in phase.reads)):
        return f"`reads` of {phase.name!r} is {_shown(phase.reads)}, and has to name features"
    called = [phase.group, phase.forward, *([phase.solve] if phase.solve is not None else [])]
    if not all(map(callable, called)):
        return f"`group`, `forward` and `solve` of {phase.name!r} have to be functions"
    if phase.solve is not None and not _takes(phase.solve, 4, "rng"):
        return (
            f"`solve` of {phase.name!r}{where(phase.solve)} has to take (model, variables, train, "
            f"val, *, rng)"
        )
    return ""


def fault_of_selection(selection: Any) -> str:
    """Of the metric by which a head selects."""
    fine = isinstance(selection, tuple | list) and len(selection) == 2
    if fine and isinstance(selection[0], str) and selection[1] in ("max", "min"):
        return ""
    return f"it has to be (metric, 'max' or 'min'), not {_shown(selection)}"


def fault_of_tensors(found: Any) -> str:
    """Of what a file of weights holds."""
    if not isinstance(found, Tensors):
        return f"they have to be a tlx.types.Tensors, not a {type(found).__name__}"
    values = found.values
    if not (isinstance(values, Mapping) and all(isinstance(name, str) for name in values)):
        return f"their values have to be arrays by name, not {_shown(values)}"
    for name, value in values.items():
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            return f"{name!r} is {_shown(value)}, and has to be an array"
    if not (isinstance(found.origin, str) and isinstance(found.sha256, str)):
        return f"their origin is {_shown(found.origin)} and their sha256 {_shown(found.sha256)}"
    return ""


def fault_of_info(info: Any) -> str:
    """Of what a data source is."""
    if not isinstance(info, DataInfo):
        return f"it has to be a tlx.types.DataInfo, not a {type(info).__name__}"
    shape = info.shape
    if shape is not None and not (
        isinstance(shape, tuple | list) and len(shape) == 3 and all(map(_counts, shape))
    ):
        return f"its shape is {shape!r}, and has to be (height, width, channels), or None"
    for name in ("classes", "numbers"):
        words = getattr(info, name)
        if not (isinstance(words, tuple | list) and all(isinstance(word, str) for word in words)):
            return f"its {name} are {_shown(words)}, and have to be a tuple of names"
    splits = info.splits
    if not (isinstance(splits, Mapping) and all(map(_counts_from_0, splits.values()))):
        return f"its splits are {_shown(splits)}, and have to say how many examples each has"
    for name in ("name", "fingerprint"):
        if not isinstance(getattr(info, name), str):
            return f"its {name} is {_shown(getattr(info, name))}, and has to be text"
    return ""


def _takes(function: Any, places: int, *names: str) -> bool:
    """Whether a function can be called with so many arguments and with those by name."""
    try:
        inspect.signature(function).bind(*range(places), **dict.fromkeys(names))
    except TypeError:
        return False
    except ValueError:  # of something built in, nobody knows
        return True
    return True


def _counts(value: Any) -> bool:
    return _counts_from_0(value) and int(value) > 0


def _counts_from_0(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _measures(value: Any) -> bool:
    return isinstance(value, Real) and value == value and abs(value) != float("inf")


def _shown(value: Any) -> str:
    """A value, if it is short, else of which type it is."""
    text = repr(value)
    return text if len(text) < 60 else f"a {type(value).__name__}"
