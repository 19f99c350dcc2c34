"""ConvNeXt's 7x7 depthwise convolution in tlx, in XLA's own form and in PyTorch, interleaved.

The four map sizes of ConvNeXt-Tiny at 224 x 224; forward alone, and forward with the gradients
of map and kernel. On the CPU PyTorch uses channels_last and all threads. Compile time is apart.

    python benchmarks/depthwise_vs_torch.py [--batch 8] [--rounds 9] [--json FILE]
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
import torch
from tlx_flax.depthwise_conv import depthwise_conv

from tlx.reporting.describe import device, versions

SHAPES = ((56, 96), (28, 192), (14, 384), (7, 768))
"""Side and channels of the maps of the four stages."""
SIZE = 7


def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """What a user of JAX would write."""
    pads = [(SIZE // 2, SIZE // 2)] * 2
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=axes, feature_group_count=x.shape[-1]
    )


def in_jax(function: Callable[..., jax.Array], batch: int, side: int, channels: int, grad: bool):
    x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
    kernel = jax.random.normal(jax.random.key(1), (SIZE, SIZE, 1, channels))

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.square(function(x, kernel)).sum()

    run = jax.jit(jax.grad(loss, (0, 1)) if grad else function)
    begun = time.perf_counter()
    compiled = run.lower(x, kernel).compile()
    seconds = time.perf_counter() - begun
    return lambda: jax.block_until_ready(compiled(x, kernel)), seconds


def in_torch(batch: int, side: int, channels: int, grad: bool) -> Callable[[], None]:
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(channels, channels, SIZE, padding=SIZE // 2, groups=channels, bias=False)
    conv = conv.to(memory_format=torch.channels_last)
    x.requires_grad_(grad)

    def one() -> None:
        if not grad:
            with torch.no_grad():
                conv(x)
            return
        x.grad = conv.weight.grad = None
        conv(x).square().sum().backward()

    return one


def milliseconds(one: Callable[[], object]) -> float:
    begun = time.perf_counter()
    one()
    return 1000 * (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for side, channels in SHAPES:
        for grad in (False, True):
            shape = (args.batch, side, channels, grad)
            ours, compiled = in_jax(depthwise_conv, *shape)
            xla, _ = in_jax(grouped, *shape)
            runs = {"tlx": ours, "xla": xla, "torch": in_torch(*shape)}
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(args.rounds + 1):
                for name, one in runs.items():
                    times[name].append(milliseconds(one))
            middle = {name: statistics.median(each[1:]) for name, each in times.items()}
            rows.append({
                "side": side, "channels": channels, "gradient": grad,
                **{f"{name}_ms": round(ms, 2) for name, ms in middle.items()},
                "times_xla": round(middle["xla"] / middle["tlx"], 2),
                "speed_of_torch": round(middle["torch"] / middle["tlx"], 3),
                "tlx_compile_seconds": round(compiled, 2),
            })  # fmt: skip
    found = {
        "batch": args.batch,
        "rows": rows,
        "device": device(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions() | {"torch": torch.__version__},
    }
    text = json.dumps(found, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
