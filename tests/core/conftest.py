"""Distributions that exist only in a test's folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`install("dist", {"heads": {"name": "module:object"}}, module="source")` in a world where
    nothing else is installed."""
    folders: list[str] = []
    found = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: found(path=folders))

    def install(
        name: str,
        plugins: dict[str, dict[str, str]],
        version: str = "1.0",
        place: str = "site",
        **modules: str,
    ) -> Path:
        site = tmp_path / place
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = [
            "\n".join([f"[tlx.{kind}]", *(f"{key} = {value}" for key, value in names.items())])
            for kind, names in plugins.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(["[console_scripts]", *groups, ""]))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
        if str(site) not in folders:
            folders.append(str(site))
            monkeypatch.syspath_prepend(site)
        return site

    return install


@pytest.fixture(scope="session")
def torch_resnet20() -> Callable[..., Any]:
    """`torch_resnet20(head="fc")`: the CIFAR ResNet-20 of He et al. (2015) in PyTorch, with names
    that torchvision made common, random numbers and batch statistics; 3x32x32 to ten logits."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, cin: int, cout: int) -> None:
            super().__init__()
            self.new, stride = cout - cin, 1 + (cin != cout)
            self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(cout)
            self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(cout)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            if self.new:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new // 2))
            return self.relu(y + x)

    class ResNet20(nn.Module):
        def __init__(self, head: str) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            for number, (cin, cout) in enumerate([(16, 16), (16, 32), (32, 64)], 1):
                blocks = [Block(cin, cout), Block(cout, cout), Block(cout, cout)]
                self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.head = head
            self.add_module(head, nn.Linear(64, 10))

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv1(x)), inplace=True)
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.get_submodule(self.head)(x.mean((2, 3)))

    def made(head: str = "fc") -> nn.Module:
        torch.manual_seed(0)
        network = ResNet20(head).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # unlike a fresh one's, so that a mix-up shows
                module.weight.data.uniform_(0.5, 1.5)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
        return network

    return made
