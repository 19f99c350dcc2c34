"""DELTA's channel attention: all channels vmapped beside one forward pass for every channel.

Three ways to the same losses of one batch, interleaved: `vmapped`, which is tlx's, runs what lies
before a feature once and what lies behind it for `--at-once` channels together; `looped` calls the
compiled part behind a feature for each channel in turn; `naive` runs the whole network for each
channel, as the authors' code does. Compile time is apart.

    python benchmarks/delta_attention.py [--network resnet20] [--batch 64] [--side 32]
        [--at-once 1 8] [--rounds 9] [--json FILE]

resnet20 is the CIFAR-10 network that ships with tlx, on scikit-learn's digits; any other backbone
has random numbers. `--json` adds to what the file holds of other settings.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tlx_divergences.channel_attention import Site, loss_without, losses_without, sites

from tlx import registry
from tlx.config import WeightsConfig
from tlx.model import Model
from tlx.reporting.describe import device, versions
from tlx.types import Batch, Variables
from tlx.weights.sources import load

SHIPPED = {"resnet20": "resnet20-cifar10"}


def setting(network: str, count: int, side: int) -> tuple[Model, Variables, Batch]:
    """A body with a random head of ten classes, and a batch of digits."""
    backbone = registry.build("backbones", network)
    inputs = replace(backbone.inputs, size=(side, side))
    model = Model(backbone, registry.build("heads", "softmax", {"classes": 10}), inputs)
    split = registry.build("datasets", "digits").split("train")
    rows = [split[i] for i in range(count)]
    image = jnp.stack([jnp.asarray(row["image"]) for row in rows])
    image = jax.image.resize(image.astype(jnp.float32) / 255, (count, side, side, 3), "linear")
    label = jnp.asarray([row["label"] for row in rows])
    batch = Batch({"image": image}, {"label": label}, jnp.arange(count), jnp.ones(count))
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    if network in SHIPPED:
        weights = registry.build("weights", SHIPPED[network])
        variables = load(WeightsConfig(name=SHIPPED[network]), weights, model, variables).variables
    return model, variables, batch


def maps(model: Model, variables: Variables, batch: Batch) -> tuple[Site, ...]:
    """The features that DELTA holds by default."""
    vectors = {spec.name for spec in model.backbone.features if spec.kind == "vector"}
    found = sites(model, variables, batch.inputs["image"][:2])
    return tuple(site for name, site in found.items() if name not in vectors)


Times = list[tuple[float, float]]
Way = tuple[Callable[[], dict[str, jax.Array]], float]


def vmapped(model: Model, variables: Variables, batch: Batch, at_once: int) -> Way:
    places = maps(model, variables, batch)
    run = jax.jit(lambda v, b: losses_without(model, v, b, places, at_once=at_once))
    compiled, seconds = built(run, variables, batch)
    return lambda: compiled(variables, batch), seconds


def looped(model: Model, variables: Variables, batch: Batch) -> Way:
    places = maps(model, variables, batch)
    key = jax.random.key(0)
    see = jax.jit(lambda v, b: model.features(v, b, rng=key, mode="eval")[0])
    below, total = built(see, variables, batch)
    features = below(variables, batch)
    behind = []
    for site in places:
        run = jax.jit(lambda v, b, f, c, site=site: loss_without(model, v, b, f, site, c))
        compiled, seconds = built(run, variables, batch, features, jnp.int32(0))
        behind.append((site, compiled))
        total += seconds

    def one() -> dict[str, jax.Array]:
        features = below(variables, batch)
        return {
            site.name: jnp.stack(
                [run(variables, batch, features, np.int32(c)) for c in range(site.channels)]
            )
            for site, run in behind
        }

    return one, total


def naive(model: Model, variables: Variables, batch: Batch) -> Way:
    places = maps(model, variables, batch)
    key, total, whole = jax.random.key(0), 0.0, []
    for site in places:

        def loss(v, b, c, site=site):
            features, _ = model.features(v, b, rng=key, mode="eval")
            return loss_without(model, v, b, features, site, c)

        compiled, seconds = built(jax.jit(loss), variables, batch, jnp.int32(0))
        whole.append((site, compiled))
        total += seconds

    def one() -> dict[str, jax.Array]:
        return {
            site.name: jnp.stack([run(variables, batch, np.int32(c)) for c in range(site.channels)])
            for site, run in whole
        }

    return one, total


def built(run, *arguments) -> tuple[Callable[..., dict[str, jax.Array]], float]:
    begun = time.perf_counter()
    compiled = run.lower(*arguments).compile()
    return compiled, time.perf_counter() - begun


def milliseconds(one: Callable[[], object]) -> tuple[float, float]:
    """(wall, this process's CPU): on a machine that others use, only the second is its own."""
    begun, busy = time.perf_counter(), time.process_time()
    jax.block_until_ready(one())
    return 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - busy)


def middle(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def speedups(slow: Times, fast: Times, which: int) -> list[float]:
    return [a[which] / b[which] for a, b in zip(slow, fast, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    given = setting(args.network, args.batch, args.side)
    ways = {"naive": naive(*given), "looped": looped(*given)}
    ways |= {f"vmapped_{n}": vmapped(*given, n) for n in args.at_once}
    first = {name: one() for name, (one, _) in ways.items()}
    for name, losses in first.items():
        for feature, each in losses.items():
            np.testing.assert_allclose(each, first["naive"][feature], rtol=1e-4, err_msg=name)
    times: dict[str, Times] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (one, _) in ways.items():
            times[name].append(milliseconds(one))
    row = {
        "network": args.network,
        "weights": SHIPPED.get(args.network, "random"),
        "batch": args.batch,
        "side": args.side,
        "channels": {name: len(each) for name, each in first["naive"].items()},
        "rounds": args.rounds,
        "load": round(os.getloadavg()[0], 1),
        "ways": {
            name: {
                "ms": round(middle(wall for wall, _ in times[name]), 1),
                "cpu_ms": round(middle(cpu for _, cpu in times[name]), 1),
                "times_naive": round(middle(speedups(times["naive"], times[name], 0)), 2),
                "times_naive_in_cpu": round(middle(speedups(times["naive"], times[name], 1)), 2),
                "compile_seconds": round(seconds, 2),
            }
            for name, (_, seconds) in ways.items()
        },
        "device": device(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
    }
    print(json.dumps(row, indent=2))
    if args.json:
        rows = json.loads(args.json.read_text()) if args.json.exists() else []
        same = ("network", "batch", "side", "device")
        rows = [old for old in rows if any(old[key] != row[key] for key in same)]
        args.json.write_text(json.dumps([*rows, row], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
