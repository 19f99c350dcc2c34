"""The exact head of a probe in tlx and in scikit-learn, interleaved on the same features.

(a) scikit-learn's digits through the ResNet-20 that ships with tlx, its 64 pooled features, for
100 to 1,500 examples; (b) 2,000 examples of 512 Gaussian features. Ten classes, one l2 alone and
a path of 13 of them, each warm-started. tlx and scikit-learn's lbfgs and newton-cg get the
features in float32 and stop where they stop by default; `tight` is newton-cg in float64 to 1e-8.
`above` is how far the mean objective lies above tight's, in float64. Times are medians: `ms` on
the wall, `cpu_ms` of the processor, which other programs disturb less. Compile time is apart. To
give both sides the same one core:

    taskset -c 0 python benchmarks/head_solver.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from tlx_strategies.exact_head import PATH, ExactHead

from tlx import registry
from tlx.config import WeightsConfig
from tlx.contracts.phase import Examples
from tlx.model import Model
from tlx.reporting.describe import device, versions
from tlx.types import Batch, Variables, unlabelled
from tlx.weights.sources import load

CLASSES = 10
ONE = 0.01
Found: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Kernel (D,classes) and bias (classes,)."""


def digits(counts: Sequence[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pooled features of the first digits, and their labels."""
    backbone = registry.build("backbones", "resnet20")
    weights = registry.build("weights", "resnet20-cifar10")
    model = Model(backbone, None, weights.input or backbone.inputs)
    split = registry.build("datasets", "digits").split("train")
    rows = [split[i] for i in range(max(counts))]
    image = np.stack([row["image"] for row in rows])
    fresh = jax.jit(model.init)(jax.random.key(0), unlabelled({"image": image[:2]}))
    variables = load(WeightsConfig(name="resnet20-cifar10"), weights, model, fresh).variables

    @jax.jit
    def pooled(image: jax.Array) -> jax.Array:
        fed = unlabelled({"image": image})
        features, _ = model.features(variables, fed, rng=jax.random.key(0), mode="eval")
        return features["pooled"]

    x = np.concatenate([pooled(part) for part in np.split(image, range(100, len(image), 100))])
    y = np.array([row["label"] for row in rows])
    return {f"digits, ResNet-20, {count} examples": (x[:count], y[:count]) for count in counts}


def gaussian(count: int = 2000, width: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap: centres about 4 apart in noise of deviation 1."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % CLASSES
    centres = 0.125 * rng.normal(size=(CLASSES, width))
    return (centres[y] + rng.normal(size=(count, width))).astype(np.float32), y


def in_tlx(x: np.ndarray, y: np.ndarray, path: tuple[float, ...]) -> Callable[[], Found]:
    """The strategy's own solver, the choice by validation included; features are on the device."""
    head = registry.build("heads", "softmax", {"classes": CLASSES})
    backbone = registry.build("backbones", "resnet20")
    model, key = Model(backbone, head, backbone.inputs), jax.random.key(0)
    count = len(y)
    blank = np.zeros((1, 8, 8, 3), np.uint8)  # nobody reads the pictures
    batch = Batch({"image": blank}, {"label": y}, np.arange(count), np.ones(count, np.float32))
    train = Examples({"pooled": jnp.asarray(x)}, jax.tree.map(jnp.asarray, batch))
    start = head.init(key, train.features)
    variables = Variables({"head": start.params}, {"head": start.state})

    def run() -> Found:
        found = ExactHead(path)(model, variables, train, train, rng=key).head
        return np.asarray(found["kernel"]), np.asarray(found["bias"])

    return run


def in_sklearn(
    x: np.ndarray, y: np.ndarray, path: tuple[float, ...], **options: Any
) -> Callable[[], Found]:
    def run() -> Found:
        made = LogisticRegression(max_iter=10_000, warm_start=True, **options)
        for l2 in path:
            made.set_params(C=1 / (l2 * len(y))).fit(x, y)
        return made.coef_.T, np.asarray(made.intercept_)

    return run


def objective(x: np.ndarray, y: np.ndarray, l2: float, found: Found) -> float:
    kernel, bias = (np.asarray(part, np.float64) for part in found)
    z = x.astype(np.float64) @ kernel + bias
    top = z.max(1)
    task = np.log(np.exp(z - top[:, None]).sum(1)) + top - z[np.arange(len(y)), y]
    return float(task.mean() + l2 / 2 * np.sum(kernel**2))


def measured(x: np.ndarray, y: np.ndarray, path: tuple[float, ...], rounds: int) -> dict[str, Any]:
    runs = {
        "tlx": in_tlx(x, y, path),
        "lbfgs": in_sklearn(x, y, path),
        "newton_cg": in_sklearn(x, y, path, solver="newton-cg"),
        "tight": in_sklearn(x.astype(np.float64), y, path, solver="newton-cg", tol=1e-8),
    }
    begun = time.perf_counter()
    runs["tlx"]()
    first = time.perf_counter() - begun
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    last: dict[str, Found] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            last[name] = run()
            wall[name].append(1000 * (time.perf_counter() - begun))
            cpu[name].append(1000 * (time.process_time() - begun_cpu))
    ms = {name: statistics.median(times) for name, times in wall.items()}
    cpu_ms = {name: statistics.median(times) for name, times in cpu.items()}
    row: dict[str, Any] = {
        "ms": {name: round(value, 2) for name, value in ms.items()},
        "cpu_ms": {name: round(value, 2) for name, value in cpu_ms.items()},
        "times_lbfgs": round(cpu_ms["lbfgs"] / cpu_ms["tlx"], 2),
        "times_newton_cg": round(cpu_ms["newton_cg"] / cpu_ms["tlx"], 2),
        "tlx_compile_seconds": round(first - ms["tlx"] / 1000, 2),
    }
    if len(path) == 1:
        best = objective(x, y, path[0], last["tight"])
        above = {name: objective(x, y, path[0], found) - best for name, found in last.items()}
        row["above"] = {name: float(f"{value:.1e}") for name, value in above.items()}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    problems = digits((100, 500, 1500)) | {"gaussian, 512 wide, 2000 examples": gaussian()}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, (x, y) in problems.items():
            for path in ((ONE,), PATH):
                what = {"problem": name, "l2": path[0] if len(path) == 1 else f"{len(path)} values"}
                rows.append(what | measured(x, y, path, args.rounds))
                print(json.dumps(rows[-1]), flush=True)
    found = {
        "rows": rows,
        "rounds": args.rounds,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[1], 1),
        "device": device(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions() | {"scikit-learn": sklearn.__version__},
    }
    text = json.dumps(found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
