"""`tlx weights verify` on what transformers itself saved and computed, with the lines of the help.

Its networks nest blocks otherwise than ours, end some behind a pooling, and turn maps round inside
a block; none of this is a difference.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from tlx.commands.weights import RECORDING
from tlx.weights import parity


def resnet() -> torch.nn.Module:
    about = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2],
        layer_type="basic", num_labels=3,
    )  # fmt: skip
    return ResNetForImageClassification(about)


def vit() -> torch.nn.Module:
    about = ViTConfig(
        image_size=32, hidden_size=192, num_attention_heads=3, intermediate_size=768,
        num_labels=3,
    )  # fmt: skip
    return ViTForImageClassification(about)


@pytest.mark.parametrize(
    ("original", "backbone", "options", "layers"),
    [
        (resnet, "resnet18", {}, 20 * 2 + 3 + 8 + 4 + 1),
        (vit, "vit_tiny_patch16", {"size": 32, "eps": 1e-12}, 12 * 10),
        pytest.param(
            lambda: ConvNextForImageClassification(ConvNextConfig(num_labels=3)),
            "convnext_tiny", {}, 18 * 5, marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_every_layer_that_is_one_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original, backbone, options, layers
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = original().eval()
    model.save_pretrained("net")
    lines = textwrap.dedent(RECORDING.split("With PyTorch:")[1])
    lines = lines.replace("224, 224", "32, 32").replace("FILE.reference", "net/reference")
    exec(compile(lines, "help", "exec", dont_inherit=True), {"model": model})
    found = parity.verify(parity.load("net", backbone, options), parity.beside("net"), 1e-4)
    assert found["first_difference"] is None
    assert len(found["layers"]) >= layers
