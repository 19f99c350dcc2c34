"""Convolution training steps in one `lax.scan` beside the same steps one after another.

    python benchmarks/conv_scan.py [--steps 4] [--rounds 3]

Why the step `jit` unrolls convolutions on the CPU: XLA's weight gradient is far slower inside of a
loop there. To be run again with every version of jax; where `scan_over_unrolled` comes near 1, the
unrolling can go. Compile time apart. Writes results/conv_scan.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from reported import reported

CHANNELS, SIZE, BATCH, LAYERS = 16, 32, 32, 4


def step(kernels: Array, picture: Array) -> tuple[Array, Array]:
    """Gradient descent on a chain of 3x3 convolutions."""

    def loss(kernels: Array) -> Array:
        x = picture
        for kernel in kernels:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x)
        return jnp.mean(x**2)

    value, slope = jax.value_and_grad(loss)(kernels)
    return kernels - 0.01 * slope, value


def scanned(kernels: Array, pictures: Array) -> tuple[Array, Array]:
    return jax.lax.scan(step, kernels, pictures)


def unrolled(kernels: Array, pictures: Array) -> tuple[Array, Array]:
    values = []
    for picture in pictures:
        kernels, value = step(kernels, picture)
        values.append(value)
    return kernels, jnp.stack(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    kernels = 0.1 * jax.random.normal(jax.random.key(0), (LAYERS, 3, 3, CHANNELS, CHANNELS))
    shape = (given.steps, BATCH, SIZE, SIZE, CHANNELS)
    pictures = jax.random.normal(jax.random.key(1), shape)
    ways: dict[str, Any] = {}
    compiled: dict[str, float] = {}
    for name, way in (("scan", scanned), ("unrolled", unrolled)):
        begun = time.perf_counter()
        ways[name] = jax.jit(way).lower(kernels, pictures).compile()
        compiled[name] = round(time.perf_counter() - begun, 2)
    ends = [way(kernels, pictures) for way in ways.values()]
    assert all(jnp.allclose(*pair, rtol=1e-4, atol=1e-6) for pair in zip(*ends, strict=True))
    each: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            jax.block_until_ready(way(kernels, pictures))
            each[name].append(1e3 * (time.perf_counter() - begun) / given.steps)
    pairs = zip(each["scan"], each["unrolled"], strict=True)
    result = {
        "what": f"{LAYERS} convolutions 3x3 of {CHANNELS} channels, {SIZE} pixels, batch {BATCH}, "
        f"{given.steps} steps in one program",
        "ms_a_step": {name: round(statistics.median(found), 2) for name, found in each.items()},
        "scan_over_unrolled": round(statistics.median(a / b for a, b in pairs), 2),
        "compile_seconds": compiled,
    }
    reported("conv_scan", result)


if __name__ == "__main__":
    main()
