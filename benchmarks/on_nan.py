"""What it costs a fine-tuning step to leave out updates that are not finite, and to look for them.

    python benchmarks/on_nan.py [--backbone resnet20] [--size 32] [--batch 64] [--rounds 24]

The same step of SGD with momentum under each policy of `[optimizer] on_nan`: one of each in turn,
in another order every round, on a batch that is there already and waited for. A ratio is the
median over the rounds of a policy's step over that of "stop" beside it; the interval holds the
middle half of the rounds. Every step is compiled anew `--compiled` times, in turn as well. Seconds
are those of this process on all cores, so that what else runs does not count (`taskset -c 0` makes
them those of a clock). Writes results/on_nan.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from reported import reported

from tlx import registry, trees
from tlx.config import OptimizerConfig
from tlx.devices.not_finite import counters
from tlx.model import Model
from tlx.objective import Objective
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.run_file.run_config import OnNan
from tlx.types import Batch, Constants, TrainState

POLICIES: tuple[OnNan, ...] = get_args(OnNan)
STOP = "stop"


def compiling(backbone: str, size: int, batch: int, policy: OnNan) -> Callable[[], Any]:
    """What compiles the step and gives what runs it once, on a state of its own."""
    body = registry.build("backbones", backbone)
    model = Model(body, registry.build("heads", "softmax", {"classes": 10}), body.inputs)
    rng = np.random.default_rng(0)
    data = Batch(
        {"image": jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8))},
        {"label": jnp.arange(batch) % 10},
        index=jnp.arange(batch),
        weight=jnp.ones(batch),
    )
    variables = jax.jit(model.init)(jax.random.key(0), data)
    (planned,) = plan(registry.build("strategies", "finetune"), model, variables.params, 1000)
    objective = Objective(planned.model, planned.phase.forward, (), (), ())
    config = OptimizerConfig(name="sgd", on_nan=policy)
    tx = transform(config, start=0, steps=1000, multipliers=planned.multipliers)
    moving, _ = trees.partition(variables.params, planned.trainable)
    state = TrainState(
        jnp.int32(0), variables.params, variables.state, tx.init(moving), jax.random.key(1),
        counters(policy),
    )  # fmt: skip
    hyper = {
        "learning_rate": jnp.float32(1e-3),
        "weight_decay": jnp.float32(0),
        "divergence": {},
        "steps": jnp.float32(1000),
    }
    constants = Constants({}, {}, {}, hyper)
    stacked = jax.tree.map(lambda leaf: leaf[None], data)

    def compiled() -> Callable[[], None]:
        jax.clear_caches()  # or tracing would be remembered
        step = registry.build("steps", "jit").build(objective, tx, planned.trainable, None)
        one = step.lower(state, constants, stacked).compile()
        now = jax.tree.map(jnp.copy, state)  # the step takes its state's memory

        def stepped() -> None:
            nonlocal now
            now, _ = one(now, constants, stacked)
            jax.block_until_ready(now)

        return stepped

    return compiled


def in_turn(what: dict[OnNan, Callable[[], Any]], rounds: int) -> dict[OnNan, list[float]]:
    """Seconds of each in every round, each first as often as the others."""
    seconds: dict[OnNan, list[float]] = {name: [] for name in what}
    for number in range(rounds):
        turn = number % len(what)
        for name in (*POLICIES[turn:], *POLICIES[:turn]):
            begun = time.process_time()
            what[name]()
            seconds[name].append(time.process_time() - begun)
    return seconds


def beside(seconds: dict[OnNan, list[float]], name: OnNan) -> Sequence[float]:
    """Quartiles over the rounds of the time that a policy took over that of "stop"."""
    return statistics.quantiles(
        [a / b for a, b in zip(seconds[name], seconds[STOP], strict=True)], n=4
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet20")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--compiled", type=int, default=2)
    given = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    made = {p: compiling(given.backbone, given.size, given.batch, p) for p in POLICIES}
    made[STOP]()  # what is imported and set up once
    steps: dict[OnNan, Callable[[], Any]] = {}

    def kept(name: OnNan) -> Callable[[], None]:
        def compiled() -> None:
            steps[name] = made[name]()

        return compiled

    compiles = in_turn({name: kept(name) for name in POLICIES}, given.compiled)
    in_turn(steps, 2)
    seconds = in_turn(steps, given.rounds)
    found = {}
    for name in POLICIES:
        low, middle, high = beside(seconds, name)
        found[name] = {
            "milliseconds": round(1e3 * statistics.median(seconds[name]), 2),
            "compile_seconds": round(statistics.median(compiles[name]), 2),
        }
        if name != STOP:
            found[name] |= {
                "step_ratio": round(middle, 4),
                "middle_half": [round(low, 4), round(high, 4)],
                "compile_ratio": round(beside(compiles, name)[1], 3),
            }
    what = f"a step of {given.backbone}, batch {given.batch} of {given.size} pixels"
    reported("on_nan", {"what": what, "policies": found, "rounds": given.rounds})


if __name__ == "__main__":
    main()
