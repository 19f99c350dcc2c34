"""What holds for every declared feature and every declared preprocessing."""

from __future__ import annotations

from typing import get_args

from tlx.testing.claims import claim
from tlx.types import FeatureKind, FeatureSpec, InputSpec

RANKS: dict[str, int] = {"map": 4, "tokens": 3, "vector": 2}


def claim_input_spec(spec: InputSpec) -> None:
    """A preprocessing that can be applied."""
    claim(isinstance(spec, InputSpec), f"`inputs` is a {type(spec).__name__}, not an InputSpec.")
    for name in ("mean", "std"):
        width = len(getattr(spec, name))
        claim(
            width in (1, spec.channels),
            f"`inputs.{name}` has {width} numbers for {spec.channels} channels.",
        )
    claim(all(s > 0 for s in spec.std), f"`inputs.std` must be positive; it is {spec.std}.")
    claim(spec.scale > 0, f"`inputs.scale` must be positive; it is {spec.scale}.")
    claim(0 < spec.crop <= 1, f"`inputs.crop` must be in 0..1; it is {spec.crop}.")
    claim(min(spec.size or (1, 1)) > 0, f"`inputs.size` must be positive; it is {spec.size}.")


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
