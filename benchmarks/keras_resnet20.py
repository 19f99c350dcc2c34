"""ResNet-20 for CIFAR-10 in Keras, from the arrays of a checkpoint in PyTorch's names: a peer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers


def resnet20(arrays: Mapping[str, np.ndarray]) -> Any:
    """Pictures (B,32,32,3) to features (B,64); the network of `torch_resnet20`."""

    def convolved(x: Any, name: str, filters: int, stride: int = 1) -> Any:
        layer = layers.Conv2D(filters, 3, stride, use_bias=False)
        y = layer(layers.ZeroPadding2D(1)(x))
        layer.set_weights([arrays[f"{name}.weight"].transpose(2, 3, 1, 0)])
        return y

    def normed(x: Any, name: str) -> Any:
        layer = layers.BatchNormalization(epsilon=1e-5)
        y = layer(x)
        stored = ("weight", "bias", "running_mean", "running_var")
        layer.set_weights([arrays[f"{name}.{each}"] for each in stored])
        return y

    begin = x = keras.Input((32, 32, 3))
    x = layers.ReLU()(normed(convolved(x, "conv1", 16), "bn1"))
    for stage, out in enumerate((16, 32, 64), 1):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = layers.ReLU()(normed(convolved(x, f"{name}.conv1", out, stride), f"{name}.bn1"))
            y = normed(convolved(y, f"{name}.conv2", out), f"{name}.bn2")
            if stride == 2:
                x = x[:, ::2, ::2]
                x = keras.ops.pad(x, [(0, 0)] * 3 + [(out // 4, out // 4)])
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(begin, layers.GlobalAveragePooling2D()(x))
