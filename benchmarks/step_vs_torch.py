"""A fine-tuning step of ResNet-20 at 32 x 32 in tlx and in PyTorch, interleaved.

Both take the same batch, SGD with Nesterov momentum and weight decay; tlx also augments and
normalises inside its step. Compile time is told apart. On the CPU PyTorch uses channels_last and
all threads.

    python benchmarks/step_vs_torch.py [--batch 128] [--rounds 9] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch_resnet20 import ResNet20

from tlx import registry, trees
from tlx.config import OptimizerConfig
from tlx.describe import device, versions
from tlx.model import Model
from tlx.objective import Objective
from tlx.optimizer import transform
from tlx.plan import plan
from tlx.types import Constants, TrainState


def tlx_step(batch: int) -> tuple[Callable[[], None], float]:
    """(one step, compile seconds)."""
    backbone = registry.build("backbones", "resnet20")
    model = Model(backbone, registry.build("heads", "softmax", {"classes": 10}), backbone.inputs)
    rng = np.random.default_rng(0)
    data = {
        "image": jnp.asarray(rng.integers(0, 256, (batch, 32, 32, 3), np.uint8)),
        "label": jnp.arange(batch) % 10,
        "index": jnp.arange(batch),
        "weight": jnp.ones(batch),
    }
    variables = model.init(jax.random.key(0), data)
    (planned,) = plan(registry.build("strategies", "finetune"), model, variables.params, 1000)
    augmentations = tuple(registry.build("augmentations", name) for name in ("flip", "crop"))
    objective = Objective(planned.model, planned.phase.forward, (), (), augmentations)
    config = OptimizerConfig(name="sgd", momentum=0.9, nesterov=True, schedule="constant")
    tx = transform(config, start=0, steps=1000, multipliers=planned.multipliers)
    step = registry.build("steps", "jit").build(objective, tx, planned.trainable, None)
    moving, _ = trees.partition(variables.params, planned.trainable)
    state = TrainState(
        jnp.int32(0), variables.params, variables.state, tx.init(moving), jax.random.key(1), {}
    )
    hyper = {
        "learning_rate": jnp.float32(0.01),
        "weight_decay": jnp.float32(5e-4),
        "divergence": {},
        "steps": jnp.float32(1000),
    }
    constants = Constants({}, {}, {}, hyper)
    stacked = {name: value[None] for name, value in data.items()}
    begun = time.perf_counter()
    compiled = step.lower(state, constants, stacked).compile()
    seconds = time.perf_counter() - begun

    def one() -> None:
        nonlocal state
        state, _ = compiled(state, constants, stacked)
        jax.block_until_ready(state.params)

    return one, seconds


def torch_step(batch: int) -> Callable[[], None]:
    """One step of the same network in PyTorch."""
    torch.manual_seed(0)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    net = ResNet20().to(where).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    x = torch.rand(batch, 3, 32, 32, device=where).to(memory_format=torch.channels_last)
    y = (torch.arange(batch) % 10).to(where)

    def one() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        if where == "cuda":
            torch.cuda.synchronize()

    return one


def milliseconds(one: Callable[[], None], steps: int) -> float:
    begun = time.perf_counter()
    for _ in range(steps):
        one()
    return 1e3 * (time.perf_counter() - begun) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    ours, compile_seconds = tlx_step(args.batch)
    theirs = torch_step(args.batch)
    ours(), theirs()
    pairs = [
        (milliseconds(ours, args.steps), milliseconds(theirs, args.steps))
        for _ in range(args.rounds)
    ]
    found = {
        "batch": args.batch,
        "tlx_ms": round(statistics.median(a for a, _ in pairs), 1),
        "torch_ms": round(statistics.median(b for _, b in pairs), 1),
        "speed_of_torch": round(statistics.median(b / a for a, b in pairs), 3),
        "tlx_compile_seconds": round(compile_seconds, 2),
        "device": device(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions() | {"torch": torch.__version__},
    }
    print(json.dumps(found, indent=2))
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
