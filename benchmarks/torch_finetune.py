"""Fine-tuning as a careful user of PyTorch writes it for one accelerator, as a peer to time.

Every picture lies on the device as uint8 from the beginning and is flipped, cropped, enlarged and
normalised there; channels_last, autocast, a fused optimizer, and nothing that waits for the device
between two evaluations. A loop over a `DataLoader`, which is slower, is not the peer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch._dynamo  # which an optimizer would import while the clock runs
from torch.nn import functional

PADDING, MOMENTUM = 4, 0.9
WARM = 3
"""Calls that may compile, tune or record."""


class Recipe(NamedTuple):
    """What is done: `steps` of `batch` pictures, an evaluation after `every` of them, SGD with
    Nesterov momentum along a cosine, decay of what is no bias and no norm. Pictures (H,W) are
    brought to `size` and normalised by `mean` and `std`."""

    steps: int
    every: int
    batch: int
    rate: float
    decay: float
    bf16: bool
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


class FirstCalls:
    """A function whose first calls are waited for: `seconds` that they took over a later one."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call, self.took = call, list[float]()

    def __call__(self, *given: Any) -> Any:
        if len(self.took) > WARM:
            return self.call(*given)
        waited()
        begun = time.perf_counter()
        found = self.call(*given)
        waited()
        self.took.append(time.perf_counter() - begun)
        return found

    @property
    def seconds(self) -> float:
        return sum(max(each - self.took[-1], 0.0) for each in self.took)


def waited() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Pictures (B,3,H,W), each flipped or not, and cut out of its padded self somewhere."""
    (count, _, height, width), where = x.shape, x.device
    x = torch.where(torch.rand(count, 1, 1, 1, device=where) < 0.5, x.flip(3), x)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count, 1, 1), device=where)
    rows = top + torch.arange(height, device=where)[:, None]
    columns = left + torch.arange(width, device=where)
    x = functional.pad(x, (PADDING,) * 4)
    return x[torch.arange(count, device=where)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


class FromBytes(torch.nn.Module):
    """Logits of uint8 pictures (B,3,H,W)."""

    def __init__(self, net: torch.nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.net, self.size = net, recipe.size
        # On the device once: a number that is copied there makes the host wait.
        self.register_buffer("mean", torch.tensor(recipe.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(recipe.std)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float() / 255
        if self.size not in (None, x.shape[2:]):
            x = functional.interpolate(x, self.size, mode="bilinear")
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        found = self.net(x)
        return (found if isinstance(found, torch.Tensor) else found.logits).float()


def finetuned(
    network: Callable[[], torch.nn.Module], numbers: Path, pictures: Path, recipe: Recipe,
    *, seed: int, inductor: str | None, firsts: list[FirstCalls],
) -> Iterator[tuple[float, float]]:  # fmt: skip
    """Pictures a second of training and accuracy on `x_val`, at each evaluation; a caller that has
    heard enough stops asking. `firsts` gets what may compile, `inductor` is its mode."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    torch.compiler.reset()
    torch.backends.cudnn.benchmark = True
    with np.load(pictures) as file:
        x, x_val = (
            torch.from_numpy(file[name]).to(where).permute(0, 3, 1, 2)
            for name in ("x_train", "x_val")
        )
        y, y_val = (torch.from_numpy(file[name]).to(where).long() for name in ("y_train", "y_val"))
    net = network()
    net.load_state_dict(torch.load(numbers, weights_only=True), strict=True)
    net = FromBytes(net, recipe).to(where).to(memory_format=torch.channels_last)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        groups, recipe.rate, momentum=MOMENTUM, nesterov=True, fused=where == "cuda"
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where, torch.bfloat16, enabled=recipe.bf16):
            return functional.cross_entropy(net(augmented(x)), y)

    @torch.no_grad()
    def right(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where, torch.bfloat16, enabled=recipe.bf16):
            return (net(x).argmax(1) == y).sum()

    if inductor:
        loss, right = torch.compile(loss, mode=inductor), torch.compile(right, mode=inductor)

    def stepped(rows: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss(x[rows], y[rows]).backward()
        optimizer.step()
        schedule.step()

    def order() -> Iterator[torch.Tensor]:
        while True:
            yield from torch.randperm(len(x), device=where).split(recipe.batch)

    step, judged = FirstCalls(stepped), FirstCalls(lambda *part: right(*part).clone())
    firsts += step, judged
    compiled, begun, since = 0.0, 0, time.perf_counter()
    for number, rows in zip(range(1, recipe.steps + 1), order(), strict=False):
        step(rows)
        if number % recipe.every and number != recipe.steps:
            continue
        waited()
        seconds = time.perf_counter() - since - (step.seconds - compiled)
        net.eval()
        parts = zip(x_val.split(recipe.batch), y_val.split(recipe.batch), strict=True)
        found = sum(judged(*part) for part in parts)
        net.train()
        yield recipe.batch * (number - begun) / seconds, int(found) / len(y_val)
        compiled, begun, since = step.seconds, number, time.perf_counter()
