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
from tlx.contracts.field import Field
from tlx.contracts.input import Input
from tlx.contracts.phase import Phase
from tlx.types import (
    DataInfo,
    FeatureKind,
    FeatureSpec,
    NormPolicy,
    Tensors,
)


def fault_of_inputs(inputs: Any) -> str:
    """Of how a network wants its values: an input, or several by port."""
    each = inputs if isinstance(inputs, Mapping) else {"": inputs}
    if not each:
        return "it has no port"
    for name, one in each.items():
        what = f"{name!r} of them" if name else "it"
        if not isinstance(one, Input):
            lacks = [m for m in ("kind", "encode", "prepare", "example") if not hasattr(one, m)]
            return (
                f"{what} has to be an input of tlx.protocols, such as tlx_image.ImageInput, not a "
                f"{type(one).__name__}, which has no {', '.join(lacks)}"
            )
        if not isinstance(one.kind, str):
            return f"the kind of {what} is {_shown(one.kind)}, and has to be text"
        try:
            hash(one)
        except TypeError:
            return f"{what} does not hash; an input is a frozen dataclass"
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
    fields = info.fields
    if not (isinstance(fields, Mapping) and all(isinstance(name, str) for name in fields)):
        return f"its fields are {_shown(fields)}, and have to be fields by name"
    for name, field in fields.items():
        if not isinstance(field, Field):
            lacks = [m for m in ("kind", "read", "encode") if not hasattr(field, m)]
            return (
                f"its field {name!r} is {_shown(field)}, which has no {', '.join(lacks)}: it has "
                f"to be a field of tlx.protocols"
            )
        for words in (getattr(field, "classes", ()), getattr(field, "numbers", ())):
            fine = isinstance(words, tuple | list) and all(isinstance(word, str) for word in words)
            if not fine:
                return f"{_shown(words)} of its field {name!r} have to be a tuple of names"
    if unknown := [name for name in info.targets if name not in fields]:
        return f"its target {unknown[0]!r} is none of its fields {tuple(fields)}"
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
