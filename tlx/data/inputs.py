"""How examples are to reach a network: as its weights were trained, bound to the fields of data.

Weights bring their inputs where their file says them; a run file may say of them what it does not;
a backbone has its own for when nobody does. Each port is bound to a field of its kind, and what an
input learns from data it learns of the training rows alone, before any network is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tlx.contracts.calls import called, has_said, where
from tlx.contracts.declared import fault_of_inputs
from tlx.contracts.file_facts import input_of
from tlx.contracts.input import (
    FitsBackbone,
    FitsInput,
    Input,
    Inputs,
    MergesInput,
    Port,
    Ports,
    SharesEntry,
    WarnsOfValues,
    ports_of,
)
from tlx.data.splits import Subset
from tlx.errors import ConfigError, ContractError, did_you_mean, listed
from tlx.protocols import Backbone, WeightSource
from tlx.types import DataInfo

SAMPLE = 16
"""Examples that are looked at, spread over a split."""
Bindings = Mapping[str, "str | tuple[str, ...]"]
"""Port -> the field or fields that a run file binds it to."""


def trained_inputs(
    backbone: Backbone, source: WeightSource | None, stated: Mapping[str, Any] | None = None
) -> Inputs:
    """The inputs that weights were trained with: what their file says, or else what the backbone
    does, changed by what a run file has `stated`, of several ports by port.

    Raises ContractError for what is no input, ConfigError for what the network cannot take."""
    own, theirs = backbone.inputs, input_of(source) if source else None
    has_said("`inputs` of the backbone", None, fault_of_inputs(own))
    has_said("`input` of the weights", None, fault_of_inputs(own if theirs is None else theirs))
    if not isinstance(own, Mapping):
        one = next(iter(theirs.values())) if isinstance(theirs, Mapping) else theirs
        return _merged(one or own, own, stated or {})
    given = theirs if isinstance(theirs, Mapping) else _of_one_tower(theirs, own)
    said = dict(stated or {})
    if unknown := sorted(said.keys() - own.keys()):
        raise ConfigError(
            f"weights.input.{unknown[0]}: the backbone has no such port."
            f"{did_you_mean(unknown[0], own)} It has {listed(own)}."
        )
    return {name: _merged(given.get(name, i), i, said.get(name, {})) for name, i in own.items()}


def _of_one_tower(theirs: Input | None, own: Mapping[str, Input]) -> Mapping[str, Input]:
    """The input of a file that one part of a network was trained with, for the only port of its
    kind."""
    ports = [name for name, one in own.items() if theirs and one.kind == theirs.kind]
    return {ports[0]: theirs} if theirs and len(ports) == 1 else {}


def _merged(trained: Input, own: Input, stated: Mapping[str, Any]) -> Input:
    if trained.kind != own.kind:
        raise ConfigError(
            f"The weights were trained on {trained.kind}s, and the backbone takes {own.kind}s."
        )
    if isinstance(trained, MergesInput):
        with called(trained, "input", "merged"):
            return trained.merged(own, stated)
    try:
        return replace(trained, **stated) if stated else trained  # type: ignore[type-var]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"weights.input: {error}.") from error


def bind_inputs(inputs: Inputs, info: DataInfo, bindings: Bindings | None = None) -> Ports:
    """The ports of a network, each bound to a field of the data: as a run file has it, else to the
    only one of its kind. Raises ConfigError where that is not clear."""
    ports, found = ports_of(inputs), []
    stated = dict(bindings or {})
    if unknown := sorted(stated.keys() - {port.name for port in ports}):
        raise ConfigError(
            f"model.inputs.{unknown[0]}: the backbone has no such port."
            f"{did_you_mean(unknown[0], [port.name for port in ports])} It has "
            f"{listed(port.name for port in ports)}."
        )
    for port in ports:
        if port.name in stated:
            names = stated[port.name]
            names = (names,) if isinstance(names, str) else tuple(names)
            _known(names, port, info)
        else:
            names = (_of_kind(port, info),)
        found.append(port._replace(fields=names, entry="+".join(names)))
    return tuple(found)


def _known(names: tuple[str, ...], port: Port, info: DataInfo) -> None:
    for name in names:
        if name not in info.fields:
            raise ConfigError(
                f"model.inputs.{port.name}: the data {info.name!r} have no field {name!r}."
                f"{did_you_mean(name, info.fields)} They have {listed(info.fields)}."
            )
        if (kind := info.fields[name].kind) != port.input.kind:
            raise ConfigError(
                f"model.inputs.{port.name}: the field {name!r} is of the kind {kind!r}, and the "
                f"backbone takes {port.input.kind!r} there."
            )


def _of_kind(port: Port, info: DataInfo) -> str:
    fitting = [name for name in info.inputs if info.fields[name].kind == port.input.kind]
    if len(fitting) == 1:
        return fitting[0]
    if port.name in fitting:
        return port.name
    each = [f"{name} ({info.fields[name].kind})" for name in info.inputs]
    if not fitting:
        raise ConfigError(
            f"The backbone takes {port.input.kind!r} at its port {port.name!r}, and the data "
            f"{info.name!r} have no such field. They have {listed(each)}. Name a backbone that "
            f"takes {'it' if len(each) == 1 else 'one of these'}: [backbone], or --backbone."
        )
    raise ConfigError(
        f"The data {info.name!r} have several fields of the kind {port.input.kind!r}: "
        f"{listed(fitting)}. Which one is meant? Say it in the run file: "
        f"model.inputs.{port.name} = {fitting[0]!r}."
    )


def fit_inputs(ports: Ports, info: DataInfo, train: Subset) -> Ports:
    """The ports with what their inputs learn of the training examples. Raises ConfigError or
    DataError where the data do not say it."""
    found = []
    for port in ports:
        one = port.input
        if isinstance(one, FitsInput):
            fields = [info.fields[name] for name in port.fields]
            with called(one, "input", "fitted"):
                one = one.fitted(fields, lambda port=port: _values(train, port.fields))
            if not isinstance(one, Input):
                raise ContractError(
                    f"`fitted` of the input {type(port.input).__name__}{where(port.input)} has to "
                    f"return an input, not a {type(one).__name__}."
                )
        found.append(port._replace(input=one))
    return tuple(found)


def fit_backbone(backbone: Backbone, ports: Ports) -> Backbone:
    """The backbone for what its inputs have learnt. Raises ContractError for what is none."""
    if not isinstance(backbone, FitsBackbone):
        return backbone
    inputs: Inputs = {port.name: port.input for port in ports}
    with called(backbone, "backbone", "for_inputs"):
        found = backbone.for_inputs(
            inputs if isinstance(backbone.inputs, Mapping) else ports[0].input
        )
    if not isinstance(found, Backbone):
        raise ContractError(
            f"`for_inputs` of the backbone {type(backbone).__name__}{where(backbone)} has to "
            f"return a backbone, not a {type(found).__name__}."
        )
    return found


def _values(train: Subset, fields: tuple[str, ...]) -> Iterable[tuple[Any, ...]]:
    def each() -> Iterator[tuple[Any, ...]]:
        for number in range(len(train)):
            example = train[number]
            yield tuple(example[name] for name in fields)

    return each()


def as_inputs(ports: Ports) -> Input | Ports:
    """The ports as a model has them: the input alone of one that is bound to nothing else."""
    return ports[0].input if ports == ports_of(ports[0].input) else ports


def shared_inputs(inputs: Input | Ports, own: Ports) -> Input | Ports:
    """The inputs of another network, for the entries of a batch that hold what the ports of its
    `own` network are given. Raises ConfigError where it cannot read these."""
    theirs = inputs if isinstance(inputs, tuple) else ports_of(inputs)
    found = []
    for port in theirs:
        same = [one for one in own if one.input.kind == port.input.kind]
        same = [one for one in same if one.name == port.name] or same
        reads = (_reading(port.input, one.input) for one in same)
        pairs = ((one, input_) for one, input_ in zip(same, reads, strict=True) if input_)
        there = next(pairs, None)
        if there is None:
            lacks = " in another form than" if same else ", of which there is none for"
            raise ConfigError(
                f"A source model takes {port.input.kind!r}{lacks} the network that is trained, "
                f"whose batches it cannot read. Take one with the same inputs."
            )
        one, input_ = there
        found.append(Port(port.name, input_, one.entry, one.fields))
    return as_inputs(tuple(found))


def _reading(theirs: Input, own: Input) -> Input | None:
    if theirs == own:
        return theirs
    return theirs.reading(own) if isinstance(theirs, SharesEntry) else None


def find_warnings(ports: Ports, subset: Subset, *, pretrained: bool) -> tuple[str, ...]:
    """Sentences about a few examples, spread over a subset, that do not look as the networks want
    them."""
    warns = [port for port in ports if isinstance(port.input, WarnsOfValues)]
    if not warns or not len(subset):
        return ()
    places = np.linspace(0, len(subset) - 1, min(SAMPLE, len(subset))).astype(int)
    examples = [subset[int(place)] for place in places]
    found: list[str] = []
    for port in warns:
        assert isinstance(port.input, WarnsOfValues)
        values = [example[port.fields[0]] for example in examples]
        with called(port.input, "input", "warnings"):
            found += port.input.warnings(values, pretrained=pretrained)
    return tuple(found)
