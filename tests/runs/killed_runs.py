"""Kill whole runs at random moments and go on with them: `killed_runs.py FOLDER KILLS [careless]`.

A run is killed (SIGKILL), resumed and killed again until it gets to its end; then the next one
begins, until there were so many kills. Every second kill also flips a byte of the newest
checkpoint, as a disk may. Each run that ended is held against one that nobody disturbed. With
`careless`, digests are not looked at, as by a manager that trusts its files, and the harness has to
notice. Prints one line of JSON. Children are forked after the imports and before jax
starts.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint  # noqa: F401  (imported before forking, once for all children)
from conftest import digests_of

from tlx import manifest, study
from tlx.testing import toys
from tlx.testing.compiling import compiled_once

STEPS = 60


def table(pictures: Path) -> dict[str, Any]:
    """Two phases, dropout, augmentation, batch statistics, a schedule, a divergence."""
    return {
        "name": "killed", "steps": STEPS, "batch_size": 10, "eval_every": 1.0, "sink": [],
        "checkpoint_seconds": 0, "log_every": 5, "backbone": f"{toys.__file__}:ToyBackbone",
        "data": {"name": "npz", "path": str(pictures), "val": 15, "check": 0},
        "strategy": {"name": "probe_then_finetune", "probe": 0.3},
        "divergence": [{"name": "l2", "weight": 0.01}],
        "augmentation": ["flip", {"name": "crop", "padding": 1}],
        "optimizer": {"name": "adamw", "learning_rate": 0.01, "schedule": "cosine"},
    }  # fmt: skip


def train(folder: Path, out: Path, *, careless: bool) -> None:
    """From the start, or from where the last one was killed."""
    if careless:
        manifest.verify = lambda folder: None
    begun = (out / "run.toml").exists()
    with (
        compiled_once(folder / "compiled"),
        open(folder / "log.txt", "a") as log,
        redirect_stdout(log),
    ):
        study.run(table(folder / "pictures.npz"), out=out, resume=begun)


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


def left(out: Path) -> dict[str, str]:
    """Digests of what a run left, read by a child: jax must not start here."""
    reader, writer = os.pipe()
    child = forked(lambda: os.write(writer, json.dumps(digests_of(out)).encode()))
    os.close(writer)
    with os.fdopen(reader) as told:
        found = json.load(told)
    os.waitpid(child, 0)
    return found


def damage(out: Path, dice: random.Random) -> bool:
    """Flip a bit of the newest checkpoint's largest file, if there are two to go back from."""
    steps = sorted(p for p in (out / "checkpoints").glob("0*") if p.is_dir())
    if len(steps) < 2:
        return False
    files = [p for p in (steps[-1] / "arrays").rglob("*") if p.is_file()]
    target = max(files, key=lambda p: p.stat().st_size)
    content = bytearray(target.read_bytes())
    content[dice.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 1 << dice.randrange(8)
    target.write_bytes(content)
    return True


def main(folder: Path, kills: int, careless: bool) -> None:
    rng, dice = np.random.default_rng(0), random.Random(0)
    label = np.arange(90) % 3
    image = rng.integers(0, 200, (90, 8, 8, 3)) + 25 * label[:, None, None, None]
    np.savez(
        folder / "pictures.npz", x_train=image[:60].astype(np.uint8), y_train=label[:60],
        x_test=image[60:].astype(np.uint8), y_test=label[60:],
    )  # fmt: skip
    whole = folder / "whole"
    assert os.waitpid(forked(lambda: train(folder, whole, careless=False)), 0)[1] == 0
    begun = time.perf_counter()  # once more, with everything compiled: how long a run takes
    again = folder / "again"
    assert os.waitpid(forked(lambda: train(folder, again, careless=False)), 0)[1] == 0
    took = time.perf_counter() - begun
    wanted = left(whole)
    assert left(again) == wanted

    found = {"kills": 0, "damaged": 0, "finished": 0, "failed": 0, "different": 0}
    out = folder / "killed"
    while found["kills"] < kills or out.exists():
        begun, fresh = time.perf_counter(), not out.exists()
        child = forked(lambda: train(folder, out, careless=careless))
        if found["kills"] < kills:
            time.sleep(dice.uniform(0.2, 0.9) * took)
        ended, status = os.waitpid(child, os.WNOHANG if found["kills"] < kills else 0)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["kills"] += 1
            found["damaged"] += found["kills"] % 2 and damage(out, dice)
            continue
        if status:
            found["failed"] += 1
        else:
            if fresh:
                took = min(took, time.perf_counter() - begun)
            found["finished"] += 1
            found["different"] += left(out) != wanted
        shutil.rmtree(out)
    print(json.dumps(found | {"seconds_of_a_run": took}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["careless"])
