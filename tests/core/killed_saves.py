"""Kill a saving loop at random moments and look at what is left: `killed_saves.py FOLDER KILLS`.

Prints one line of JSON. The children are forked after the imports and before the backend starts,
so a kill costs a fraction of a second.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint  # noqa: F401  (imported before forking, once for all children)

from tlx.checkpoint import HIDDEN, Checkpoints


def tree(step: int) -> dict[str, jax.Array]:
    rows = jnp.arange(64.0)
    return {f"leaf{i}": jnp.sin(rows * (i + 1) + step).reshape(8, 8) for i in range(20)} | {
        "step": jnp.int32(step),
        "rng": jax.random.fold_in(jax.random.key(0), step),
    }


def same(a: jax.Array, b: jax.Array) -> bool:
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(a, b)


def save_for_ever(root: Path, done: int) -> None:
    """Tell of every step that was saved."""
    with Checkpoints(root) as checkpoints:
        found = checkpoints.restore(tree(0))
        step = found.step + 1 if found else 1
        while True:
            checkpoints.save(step, tree(step))
            os.write(done, b"!")
            step += 1


def look(root: Path, answer: int) -> None:
    """Every step that is listed has to be whole and equal, bit by bit."""
    bad = []
    with Checkpoints(root) as checkpoints:
        steps = checkpoints.steps()
        for step in steps:
            only = Checkpoints(root)
            only.steps = lambda step=step: (step,)  # this step and none to fall back to
            try:
                found = only.restore(tree(0))
                assert found is not None
                want = tree(step)
                if found.step != step or not all(same(found.tree[k], want[k]) for k in want):
                    bad.append(f"step {step} has other numbers")
            except Exception as error:
                bad.append(f"step {step}: {error}")
            only.close()
    os.write(answer, json.dumps([len(steps), steps[-1] if steps else 0, bad]).encode())


def forked(job: Callable[[Path, int], None], root: Path) -> tuple[int, int]:
    """(process, pipe to read from)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            job(root, writer)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    return child, reader


def main(root: Path, kills: int) -> None:
    dice = random.Random(0)
    total = left_overs = newest = 0
    bad: list[str] = []
    for _ in range(kills):
        child, done = forked(save_for_ever, root)
        # After one to three steps, somewhere within the next: as long as the last one took.
        took = 0.0
        for _ in range(dice.randint(1, 3)):
            begun = time.perf_counter()
            assert os.read(done, 1) == b"!", "the saving loop stopped by itself"
            took = time.perf_counter() - begun
        time.sleep(dice.uniform(0.0, min(took, 1.0)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(done)
        left_overs += any(p.name.startswith(HIDDEN) for p in root.iterdir())
        child, answer = forked(look, root)
        text = b""
        while more := os.read(answer, 65536):
            text += more
        os.close(answer)
        os.waitpid(child, 0)
        count, last, wrong = json.loads(text)
        bad += wrong
        if last < newest:
            bad.append(f"step {newest} was there, now the newest is {last}")
        total, newest = total + count, last
    print(json.dumps({"kills": kills, "steps": total, "bad": bad, "left_overs": left_overs}))


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "checkpoints", int(sys.argv[2]))
