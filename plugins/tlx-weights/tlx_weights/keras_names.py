"""What Keras calls its variables, from what its files say.

Keras 3 numbers a layer's variables: their names follow from the layer's class, which the name of
its group tells (`conv2d_3`), and from its options, which only a `.keras` archive holds. The
layer's own name is an attribute of the group, or stands in that archive. Keras before 3 wrote
names, with endings of TensorFlow's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

KERNEL = ("kernel", "bias")
AFFINE = ("gamma", "beta")
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "conv1d": KERNEL,
    "conv2d": KERNEL,
    "conv3d": KERNEL,
    "conv1dtranspose": KERNEL,
    "conv2dtranspose": KERNEL,
    "conv3dtranspose": KERNEL,
    "depthwiseconv1d": KERNEL,
    "depthwiseconv2d": KERNEL,
    "dense": KERNEL,
    "einsumdense": KERNEL,
    "separableconv1d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "separableconv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "batchnormalization": (*AFFINE, "moving_mean", "moving_variance"),
    "layernormalization": AFFINE,
    "groupnormalization": AFFINE,
    "embedding": ("embeddings",),
    "prelu": ("alpha",),
    "normalization": ("mean", "variance", "count"),
    "seedgenerator": ("seed_generator_state",),
}
"""Class (lower case, without underscores) -> its variables in the order they are numbered."""
OPTIONAL: Mapping[str, str] = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
"""Variable -> the option of its layer that leaves it out."""
SCOPELESS = ("functional", "model")
"""Models of these classes do not lend their name to the variables in them."""
KERAS_1: Mapping[str, str] = {"W": "kernel", "b": "bias"}
"""What Keras 1 called them; the published VGG files still do."""


@final
@dataclass(frozen=True)
class Layer:
    """What is known about a layer: its class (lower case, without underscores), its name where
    it is known, and its part of a `.keras` archive's description where there is one."""

    kind: str
    name: str = ""
    config: Mapping[str, Any] | None = None

    @property
    def scope(self) -> str:
        """What it adds to the names of its variables."""
        return "" if self.kind in SCOPELESS else self.name

    def variables(self, count: int) -> tuple[str, ...]:
        """Names of `count` variables in order; their numbers where it cannot be told which
        ones a layer has left out."""
        names = VARIABLES.get(self.kind, ())
        if self.config is not None:
            options = self.config
            names = tuple(n for n in names if options.get(OPTIONAL.get(n, ""), True))
        elif names[-1:] == ("bias",):
            names = names[:count]
        elif names[:2] == AFFINE and count == len(names) - 2:
            names = names[2:]
        return names if len(names) == count else tuple(map(str, range(count)))

    def inner(self) -> dict[str, Layer]:
        """The layers of a model by the name of their group, as far as its description goes."""
        entries = (self.config or {}).get("layers")
        found: dict[str, Layer] = {}
        seen: dict[str, int] = {}
        for entry in entries if isinstance(entries, Sequence) else ():
            layer = described(entry)
            if layer is None or (layer.kind == "inputlayer" and self.kind == "sequential"):
                continue
            number = seen[layer.kind] = seen.get(layer.kind, -1) + 1
            found[f"{layer.kind}_{number}" if number else layer.kind] = layer
        return found


def described(entry: Any) -> Layer | None:
    """A layer as `config.json` describes it; None for anything else."""
    if not isinstance(entry, Mapping):
        return None
    kind, config = entry.get("class_name"), entry.get("config")
    if not isinstance(kind, str) or not isinstance(config, Mapping):
        return None
    name = config.get("name")
    return Layer(_squashed(kind), name if isinstance(name, str) else "", config)


def grouped(group: str, name: str, known: Mapping[str, Layer]) -> Layer:
    """The layer of a group, whose attribute says that it is called `name` (may be empty).

    A group that is named after an attribute of its owner does not tell the class; a name that
    Keras gave by itself does."""
    base, number = _numbered(group)
    kind = _squashed(base)
    if layer := known.get(f"{kind}_{number}" if number else kind):
        return layer if layer.name else Layer(layer.kind, name or group, layer.config)
    named = _squashed(_numbered(name)[0])
    if kind not in VARIABLES and kind not in (*SCOPELESS, "sequential"):
        # Attention keeps its four dense layers under names of its own.
        kind = "einsumdense" if base.endswith("_dense") else named if named in VARIABLES else kind
    return Layer(kind, name or group)


def plain(layer: str, names: Sequence[str]) -> list[str]:
    """Names that Keras before 3 wrote for the variables of a layer, as Keras 3 writes them.

    `conv1/kernel:0` loses TensorFlow's ending, `conv1_1/kernel:0` its number where the layer is
    called `conv1`, and Keras 1's `conv1_W_1:0` becomes `conv1/kernel`. Variables of the model
    itself have no layer (empty) and no scope."""
    return [_plain(layer, name) for name in names]


def join(scope: str, name: str) -> str:
    """A name within a scope; either may be empty."""
    return f"{scope}/{name}" if scope and name else scope or name


def _plain(layer: str, name: str) -> str:
    bare = re.sub(r":\d+$", "", name)
    if not layer:
        return bare
    scope, slash, variable = bare.rpartition("/")
    if slash:
        return f"{layer}/{variable}" if re.fullmatch(re.escape(layer) + r"_\d+", scope) else bare
    old = re.fullmatch(re.escape(layer) + r"_(\w+?)(_\d+)?", bare)
    short = old[1] if old else bare
    return f"{layer}/{KERAS_1.get(short, short)}"


def _squashed(kind: str) -> str:
    return kind.replace("_", "").lower()


def _numbered(group: str) -> tuple[str, int]:
    """('conv2d', 3) of `conv2d_3`, and 0 where there is no number."""
    base, _, number = group.rpartition("_")
    return (base, int(number)) if base and number.isdecimal() else (group, 0)
