"""ResNet-20 for CIFAR-10 in PyTorch (He et al. 2015, section 4.2, option A), as a peer to time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - into

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.more:
            pad = (0, 0, 0, 0, self.more // 2, self.more // 2)
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], pad)
        return torch.relu(x + y)


class ResNet20(nn.Module):
    """Its parameters are named as in the published checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for number, (into, out) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            blocks = [Block(into, out, 1 if into == out else 2), Block(out, out, 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks, Block(out, out, 1)))
        self.linear = nn.Linear(64, 10)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B,64) in front of the last layer."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.pooled(x))
