"""What holds for every declared feature and every declared preprocessing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast, get_args

import jax

from tlx.contracts.declared import fault_of_inputs
from tlx.contracts.input import Input, ports_of
from tlx.testing.claims import claim, fail
from tlx.types import FeatureKind, FeatureSpec

RANKS: dict[str, int] = {"map": 4, "tokens": 3, "vector": 2}


def claim_inputs(inputs: Any) -> None:
    """Inputs that can be applied: what they encode of an example, `prepare` takes."""
    claim(not (fault := fault_of_inputs(inputs)), f"`inputs`: {fault}.")
    for port in ports_of(inputs):
        try:
            jax.eval_shape(port.input.prepare, port.input.example())
        except Exception as error:
            fail(f"`prepare` of the port {port.name!r} does not take its own `example`: {error}")


def small_input(input_: Input) -> Any:
    """The input with a small canvas, where nobody says how large its images are."""
    if getattr(input_, "canvas", 0) is None and getattr(input_, "size", 0) is None:
        return replace(cast("Any", input_), canvas=(32, 32))
    return input_


def claim_feature(spec: FeatureSpec, shape: tuple[int, ...], height: int) -> None:
    """A feature of the declared kind, channels and stride, from pictures `height` pixels high."""
    kinds = get_args(FeatureKind)
    claim(spec.kind in kinds, f"The feature {spec.name!r} is of kind {spec.kind!r}, not {kinds}.")
    claim(
        len(shape) == RANKS[spec.kind],
        f"The feature {spec.name!r} is declared as {spec.kind!r} but has shape {shape}.",
    )
    claim(
        shape[-1] == spec.channels,
        f"The feature {spec.name!r} declares {spec.channels} channels but has shape {shape}.",
    )
    if spec.kind == "map":
        claim(
            # A network that does not pad loses a few pixels at the border.
            spec.stride and 0.8 * height <= shape[1] * spec.stride < height + spec.stride,
            f"The feature {spec.name!r} declares stride {spec.stride}, but pictures {height} high "
            f"give a map {shape[1]} high.",
        )
