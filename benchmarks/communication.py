"""What devices keep and say to each other in a step, counted in the compiled program.

    python benchmarks/communication.py [--data 4] [--fsdp 2] [--batch 16]

Eight virtual devices on one CPU. For each strategy the step is compiled for the grid; the bytes of
its collectives are added up out of the program's text, those of its arguments on a device come from
the compiler. Beside both stands what docs/scaling.md derives on paper. Writes
results/communication.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np

from tlx import registry, trees
from tlx.config import OptimizerConfig
from tlx.devices import mesh as meshes
from tlx.model import Model
from tlx.objective import Objective
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.protocols import Averages, Reparametrises
from tlx.reporting.describe import versions
from tlx.run_file.run_config import MeshConfig
from tlx.types import Batch, Constants, TrainState, Variables

HERE = Path(__file__).resolve().parent
STRATEGIES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "finetune, last stage": {"frozen": ["stem", "stage1", "stage2", "stage3"]},
    "feature_transfer": {},
    "bitfit": {},
    "lora": {"rank": 8},
    "simclr": {},
    "byol": {},
}
BACKBONE, SIZE, CLASSES = "resnet18", 64, 10
SLOTS = 2
"""Numbers that adamw remembers of each one that moves."""
WIDTH = {"f32": 4, "s32": 4, "u32": 4, "f16": 2, "bf16": 2, "pred": 1, "u8": 1, "s8": 1, "f64": 8}
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


def spoken(text: str) -> dict[str, int]:
    """Kind of collective -> bytes of the arrays that it gives, over a program's text."""
    found: dict[str, int] = {}
    for shapes, kind in COLLECTIVE.findall(text):
        size = sum(
            WIDTH.get(kind_of, 4) * math.prod(int(n) for n in dims.split(",") if n)
            for kind_of, dims in SHAPE.findall(shapes)
        )
        found[kind] = found.get(kind, 0) + size
    return found


def cut(tree: Any, fsdp: int) -> int:
    """Bytes of a tree on a device of the grid."""
    sizes = (
        leaf.nbytes // (fsdp if any(meshes.spec(leaf.shape, fsdp)) else 1)
        for leaf in jax.tree.leaves(tree)
        if hasattr(leaf, "nbytes")
    )
    return sum(sizes)


def gathers(tree: Any, fsdp: int) -> int:
    """Bytes of the leaves that a step has to gather."""
    return sum(x.nbytes for x in jax.tree.leaves(tree) if any(meshes.spec(x.shape, fsdp)))


def measured(name: str, data: int, fsdp: int, batch_size: int) -> dict[str, Any]:
    grid = meshes.mesh_of(MeshConfig(data=data, fsdp=fsdp), batch_size)
    strategy = registry.build("strategies", name.split(",")[0], STRATEGIES[name])
    backbone = registry.build("backbones", BACKBONE)
    labelled = "classes" if name not in ("simclr", "byol") else ""
    head = registry.build("heads", "softmax", {"classes": CLASSES}) if labelled else None
    model = Model(backbone, head, backbone.inputs)
    pixels = np.zeros((batch_size, SIZE, SIZE, 3), np.uint8)
    batch = Batch(
        {"image": pixels}, {"label": np.zeros(batch_size, np.int32)},
        index=np.arange(batch_size), weight=np.ones(batch_size, np.float32),
    )  # fmt: skip
    made = jax.jit(model.init)(jax.random.key(0), batch)
    own = strategy.init(jax.random.key(1), model, batch)
    params, state = dict(made.params), dict(made.state)
    for tree, mine in ((params, own.params), (state, own.state)):
        if jax.tree.leaves(mine):
            tree["strategy"] = mine
    averages = isinstance(strategy, Averages)
    state = strategy.begin(params, state) if averages else state
    planned = plan(strategy, model, params, 100)[-1]
    objective = Objective(
        planned.model, planned.phase.forward,
        effective=strategy.effective if isinstance(strategy, Reparametrises) else None,
        averaging=strategy if averages else None,
    )  # fmt: skip
    tx = transform(
        OptimizerConfig(name="adamw"), start=0, steps=100, multipliers=planned.multipliers
    )
    moving, _ = trees.partition(params, planned.trainable)
    train = TrainState(jnp.int32(0), params, state, tx.init(moving), jax.random.key(2), {})
    hyper = {"learning_rate": 1e-3, "weight_decay": 1e-4, "steps": 100.0, "divergence": {}}
    reads = Constants({}, {}, {}, jax.tree.map(jnp.float32, hyper))
    train, reads = meshes.placed((train, reads), grid)
    stacked = meshes.shared(jax.tree.map(lambda leaf: leaf[None], batch), grid, axis=1)
    step = registry.build("steps", "jit").build(objective, tx, planned.trainable, grid)
    compiled = step.lower(train, reads, stacked).compile()
    found, variables = spoken(compiled.as_text()), Variables(params, state)
    moves = sum(leaf.nbytes for leaf in jax.tree.leaves(moving))
    numbers = jax.tree.leaves(batch)
    return {
        "moves_mb": moves / 2**20,
        "kept_on_a_device_mb": compiled.memory_analysis().argument_size_in_bytes / 2**20,
        "kept_on_paper_mb": (
            cut(variables, fsdp) + cut(tx.init(moving), fsdp)
            + sum(leaf.nbytes for leaf in numbers) // (data * fsdp)
        ) / 2**20,
        "gathered_mb": found.get("all-gather", 0) / 2**20,
        "gathered_on_paper_mb": (gathers(variables, fsdp)) / 2**20,
        "reduced_mb": (found.get("all-reduce", 0) + found.get("reduce-scatter", 0)) / 2**20,
        "reduced_on_paper_mb": moves / 2**20,
        "other_mb": sum(
            size for kind, size in found.items()
            if kind in ("all-to-all", "collective-permute")
        ) / 2**20,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=int, default=4)
    parser.add_argument("--fsdp", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    found = {}
    for name in STRATEGIES:
        line = measured(name, given.data, given.fsdp, given.batch)
        found[name] = {key: round(value, 3) for key, value in line.items()}
        print(name, json.dumps(found[name]), flush=True)
    result = {
        "what": f"{BACKBONE} at {SIZE} pixels, adamw, a step on data {given.data} x fsdp "
        f"{given.fsdp}, a batch of {given.batch}",
        "strategies": found,
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    (HERE / "results" / "communication.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
