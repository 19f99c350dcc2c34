"""What the JSON files beside weights on the Hugging Face hub say about them.

timm writes everything into `config.json`; transformers keeps the network in `config.json` and the
preprocessing in `preprocessor_config.json`. Which fields are read is listed where they are read:
in `tlx_weights.timm_config`, `tlx_weights.transformers_config` and, of `config.json`,

- `architecture` (timm), `model_type` or `architectures` (transformers): what the network is called;
- `label_names` and `num_classes` (timm), `id2label` (transformers): the classes of the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tlx_image import ImageInput

from tlx.errors import WeightsError

WAY_OUT = 'Write preprocessing = "backbone" in [weights] to feed it as the backbone is by default.'
_NUMBERED = re.compile(r"LABEL_\d+")


class Preprocessing(NamedTuple):
    """How pictures reach the network, and in words what of it tlx does otherwise."""

    input: ImageInput
    notes: tuple[str, ...] = ()


def refused(where: str, what: str) -> WeightsError:
    """The error that a preprocessing cannot be followed, and what to do about it."""
    return WeightsError(f"{where} {what}, which tlx cannot follow. {WAY_OUT}")


def architecture(config: Mapping[str, Any]) -> str:
    """What the network is called, such as "resnet18" (timm) or "vit" (transformers); empty where
    the file does not say."""
    name = config.get("architecture") or config.get("model_type") or ""
    classes = config.get("architectures")
    if not name and isinstance(classes, list) and classes and isinstance(classes[0], str):
        name = re.sub(r"(For[A-Z]\w*|Model|Backbone)$", "", classes[0]).lower()
    return name if isinstance(name, str) else ""


def classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names in output order; None where the file has none, or only numbered ones.

    timm: a list `label_names`, at the top or in `pretrained_cfg`, as long as `num_classes` says;
    transformers: `id2label`, whose keys count from 0."""
    inner = config.get("pretrained_cfg")
    nested = inner if isinstance(inner, Mapping) else {}
    names = config.get("label_names", nested.get("label_names"))
    if _is_names(names):
        count = config.get("num_classes", nested.get("num_classes", len(names)))
        return tuple(names) if count == len(names) else None
    table = config.get("id2label")
    if not isinstance(table, Mapping):
        return None
    ordered: list[Any] = [table.get(str(number)) for number in range(len(table))]
    if not _is_names(ordered) or all(_NUMBERED.fullmatch(name) for name in ordered):
        return None
    return tuple(ordered)


def cropped(side: int, crop_pct: float) -> float:
    """The share of the resized side that a crop of `side` pixels keeps.

    timm and transformers resize to `side / crop_pct`, cut down to whole pixels; the share is such
    that tlx comes to the same number of pixels."""
    return side / int(side / crop_pct)


def _is_names(names: Any) -> bool:
    return (
        isinstance(names, Sequence)
        and not isinstance(names, str)
        and bool(names)
        and all(isinstance(name, str) for name in names)
    )
