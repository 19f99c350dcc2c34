"""One convolution at a time on the CPU: forward and both gradients, in every way that was tried.

    python benchmarks/convolutions.py [--rounds 5]

Behind what `tlx.devices.compiled` asks of the compiler and what `tlx_flax.convolution` does
otherwise; to be run again with every version of jax. `xla` is XLA's convolution as jax compiles it
by default, `options` the same with tlx's compiler options, `tlx` what a network of tlx computes,
with these options, and `torch` PyTorch's in channels_last; interleaved. Writes
results/convolutions.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reported import reported
from tlx_flax.convolution import convolution, plain

from tlx.devices.compiled import compiled

SHAPES = [
    # batch, pixels, window, stride, channels in and out
    (128, 32, 3, 1, 3, 16), (128, 32, 3, 1, 16, 16), (128, 16, 3, 1, 32, 32),
    (128, 8, 3, 1, 64, 64), (16, 56, 3, 1, 64, 64), (16, 14, 3, 1, 256, 256),
    (16, 224, 7, 2, 3, 64), (8, 56, 1, 1, 64, 256), (8, 56, 1, 1, 256, 64),
    (8, 56, 1, 2, 256, 512), (8, 28, 1, 1, 512, 128), (8, 7, 1, 1, 2048, 512),
]  # fmt: skip
WHAT = ("forward", "for_input", "for_weight")


def in_jax(way: Any, jit: Any, *arrays: Any) -> dict[str, Callable[[], Any]]:
    def for_input(x: Any, w: Any, g: Any) -> Any:
        return jax.vjp(lambda x: way(x, w), x)[1](g)[0]

    def for_weight(x: Any, w: Any, g: Any) -> Any:
        return jax.vjp(lambda w: way(x, w), w)[1](g)[0]

    functions = (lambda x, w, g: way(x, w), for_input, for_weight)
    programs = [jit(function).lower(*arrays).compile() for function in functions]
    return {
        what: lambda program=program: program(*arrays).block_until_ready()
        for what, program in zip(WHAT, programs, strict=True)
    }


def in_torch(stride: int, x: Any, w: Any, g: Any) -> dict[str, Callable[[], Any]]:
    def first(array: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(array)).permute(0, 3, 1, 2)

    pad, kernel = w.shape[0] // 2, torch.from_numpy(np.array(w)).permute(3, 2, 0, 1)
    kernel, x, g = kernel.contiguous(memory_format=torch.channels_last), first(x), first(g)

    def back(*wanted: bool) -> Callable[[], Any]:
        return lambda: torch.ops.aten.convolution_backward(
            g, x, kernel, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [*wanted, False]
        )

    forward = partial(torch.conv2d, x, kernel, stride=stride, padding=pad)
    return dict(zip(WHAT, (forward, back(True, False), back(False, True)), strict=True))


def timed(ways: dict[str, dict[str, Callable[[], Any]]], rounds: int) -> dict[str, Any]:
    """Milliseconds of every way, medians, by what is computed."""
    found: dict[str, Any] = {}
    for what in WHAT:
        each: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                begun = time.perf_counter()
                for _ in range(3):
                    way[what]()
                if number:  # the first round warms up
                    each[name].append(1e3 * (time.perf_counter() - begun) / 3)
        found[what] = {name: round(statistics.median(times), 2) for name, times in each.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    table = {}
    for batch, pixels, window, stride, cin, cout in SHAPES:
        x = jax.random.normal(jax.random.key(0), (batch, pixels, pixels, cin))
        w = 0.1 * jax.random.normal(jax.random.key(1), (window, window, cin, cout))
        g = jnp.ones_like(plain(x, w, stride))
        usual = partial(plain, stride=stride)
        ways = {
            "xla": in_jax(usual, jax.jit, x, w, g),
            "options": in_jax(usual, compiled, x, w, g),
            "tlx": in_jax(partial(convolution, stride=stride), compiled, x, w, g),
            "torch": in_torch(stride, x, w, g),
        }
        name = f"{batch} x {pixels}² x {cin} to {cout}, {window} x {window} / {stride}"
        table[name] = timed(ways, given.rounds)
        print(name, json.dumps(table[name]))
    result = {
        "what": "milliseconds of one convolution, float32",
        "ms": table,
        "rounds": given.rounds,
    }
    reported("convolutions", result, torch=torch.__version__)


if __name__ == "__main__":
    main()
