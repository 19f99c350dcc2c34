"""PyTorch's names of a ResNet's parameters as leaf paths.

torchvision, timm and the CIFAR ResNets of He et al. in PyTorch all say `layer1.0.conv2.weight`;
they differ in the projection of a shortcut (`downsample`, `shortcut`), in the classifier (`fc`,
`linear`) and in the prefix that a parallel wrapper leaves (`module.`).
"""

from __future__ import annotations

import re

_CONV = {"weight": "params/{}/kernel"}
_NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "state/{}/mean",
    "running_var": "state/{}/var",
}
_HEAD = {"weight": "params/head/kernel", "bias": "params/head/bias"}
_LAYER = re.compile(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|(?:downsample|shortcut)\.([01]))")


def resnet_name(name: str) -> str | None:
    """The leaf path for a PyTorch name; None for what a ResNet here does not have.

    A leaf path stays as it is. Kernels keep their PyTorch layout: who reads the file turns OIHW
    into HWIO."""
    if name.startswith(("params/", "state/")):
        return name
    layer, _, kind = name.removeprefix("module.").rpartition(".")
    if layer in ("fc", "linear"):
        return _HEAD.get(kind)
    if layer in ("conv1", "bn1"):
        place, table = f"stem/{layer}", _CONV if layer == "conv1" else _NORM
    elif match := _LAYER.fullmatch(layer):
        stage, block, role, number, projection = match.groups()
        if role is None:
            role, number = ("conv", "bn")[int(projection)], ""
        own = f"{role}{number}" if number else f"shortcut/{role}"
        place, table = f"stage{stage}/block{block}/{own}", _CONV if role == "conv" else _NORM
    else:
        return None
    form = table.get(kind)
    return form and form.format(f"backbone/{place}")
