"""Kill a saving loop at random moments and look at it: `killed_saves.py FOLDER WAY:KILLS ...`.

A way is `careful`, as tlx saves, or one of two known-bad managers, which this has to notice:
`in_place` writes a step under its own name from the start, `hasty` acknowledges a step before it is
on disk. Prints one line of JSON for each. Children are forked after the imports and before the
backend starts, so a kill costs a fraction of a second.
"""

import gc
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint  # noqa: F401  (imported before forking, once for all children)

from tlx import checkpoint
from tlx.checkpoint import HIDDEN, Checkpoints

WAYS = ("careful", "in_place", "hasty")


def tree(step: int) -> dict[str, Any]:
    """Some of each kind of leaf; made without compiling anything, which would be most of a kill."""
    dice = np.random.default_rng(step)
    key = jax.device_put(dice.integers(0, 2**32, 2, np.uint32))
    half = dice.standard_normal((5, 8), np.float32).astype(jnp.bfloat16)
    return {f"leaf{i}": dice.standard_normal((8, 8), np.float32) for i in range(12)} | {
        "step": step,
        "rng": jax.random.wrap_key_data(key),
        "half": jax.device_put(half),
    }


def bits(leaf: Any) -> bytes:
    key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()


def save_for_ever(root: Path, way: str, alone: bool, done: int) -> None:
    """Acknowledge every step that was saved; `alone` waits for each, else a thread writes it."""
    with Checkpoints(root) as checkpoints:
        if way == "in_place":
            checkpoint.HIDDEN = ("", HIDDEN[1])
            checkpoints._cleaned = True
        found = checkpoints.restore(tree(0))
        step = found.step + 1 if found else 1
        while True:
            if alone and way != "hasty":
                checkpoints.save(step, tree(step))
            else:
                checkpoints.begin(step, tree(step))
            if way != "hasty":
                checkpoints.wait()
            os.write(done, step.to_bytes(8))
            step += 1


def look_for_ever(root: Path, asked: int, ask: int, answer: int) -> None:
    """Whenever asked: every step that is listed has to be whole and equal, bit by bit."""
    os.close(ask)  # or else it never ends
    while os.read(asked, 1):
        bad, steps = [], Checkpoints(root).steps()
        for step in steps:
            with Checkpoints(root) as only:
                only.steps = lambda step=step: (step,)  # this step and none to fall back to
                try:
                    found = only.restore(tree(0))
                    assert found is not None
                    want = tree(step)
                    if found.step != step or any(
                        bits(found.tree[k]) != bits(want[k]) for k in want
                    ):
                        bad.append(f"step {step} has other numbers")
                except Exception as error:
                    bad.append(f"step {step}: {error}")
        os.write(answer, (json.dumps([steps, bad]) + "\n").encode())


def forked(job: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            job()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def main(root: Path, way: str, kills: int) -> None:
    dice = random.Random(0)
    total = left_overs = newest = 0
    bad: list[str] = []
    ask_in, ask = os.pipe()
    told, tell = os.pipe()
    looker = forked(partial(look_for_ever, root, ask_in, ask, tell))
    os.close(ask_in)
    os.close(tell)
    answers = os.fdopen(told)
    first = 0.3  # seconds from the fork to the first step
    for kill in range(kills):
        done, acknowledge = os.pipe()
        begun = time.perf_counter()
        child = forked(partial(save_for_ever, root, way, kill % 2 == 0, acknowledge))
        os.close(acknowledge)
        # Within the first step, or after one or two within the next: as long as the last one took.
        took, acknowledged = first, newest
        for after in range(dice.choice((0, 1, 1, 2))):
            text = os.read(done, 8)
            assert text, "the saving loop stopped by itself"
            acknowledged, now = int.from_bytes(text), time.perf_counter()
            took, begun = now - begun, now
            first = first if after else took
        time.sleep(dice.uniform(0.0, min(took, 1.0)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while text := os.read(done, 8):
            acknowledged = int.from_bytes(text)
        os.close(done)
        left_overs += root.exists() and any(p.name.startswith(HIDDEN) for p in root.iterdir())
        os.write(ask, b"?")
        steps, wrong = json.loads(answers.readline())
        bad += wrong
        newest = steps[-1] if steps else 0
        if newest < acknowledged:
            bad.append(f"step {acknowledged} was acknowledged, now the newest is {newest}")
        total += len(steps)
    os.close(ask)
    os.waitpid(looker, 0)
    about = {"way": way, "kills": kills, "steps": total, "bad": bad, "left_overs": left_overs}
    print(json.dumps(about), flush=True)


if __name__ == "__main__":
    gc.freeze()  # no child goes through what was imported
    for asked_for in sys.argv[2:]:
        this, _, count = asked_for.partition(":")
        assert this in WAYS, this
        main(Path(sys.argv[1]) / this / "checkpoints", this, int(count))
