"""Kill whole runs at random moments and go on: `killed_runs.py FOLDER KILLS CARELESS_KILLS`.

A run is killed (SIGKILL), resumed and killed again until it gets to its end; then the next one
begins, until there were so many kills. Every second kill also flips a byte of the newest
checkpoint, as a disk may. Each run that ended is held against one that nobody disturbed. Careless
ones do not look at digests, as by a manager that trusts its files, and have to be noticed. Prints
one line of JSON. Children are forked after the imports and before jax starts.
"""

import gc
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

from tlx import config, study
from tlx.files import manifest
from tlx.testing import toys
from tlx.testing.compiling import compiled_once

STEPS = 40


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
    """Flip a bit of one of the newest checkpoint's files, if there are two to go back from."""
    steps = sorted(p for p in (out / "checkpoints").glob("0*") if p.is_dir())
    if len(steps) < 2:
        return False
    files = sorted(p for p in steps[-1].rglob("*") if p.is_file() and p.stat().st_size)
    target = dice.choice(files)
    content = bytearray(target.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    target.write_bytes(content)
    return True


def sleep_until_killed(child: int, out: Path, took: float, dice: random.Random) -> None:
    """One in four is killed anywhere in a run, else within what follows one to three saves: up to
    the first one a run only starts, which takes longest."""
    if not dice.randrange(4):
        time.sleep(dice.uniform(0.0, took))
        return
    seen, gap, last = names(out), 0.0, time.perf_counter()
    for _ in range(dice.randint(1, 3)):
        while (now := names(out)) == seen:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.002)
        seen, gap, last = now, time.perf_counter() - last, time.perf_counter()
    time.sleep(dice.uniform(0.0, min(gap, 0.2)))


def names(out: Path) -> set[str]:
    """Steps that are on the disk."""
    folder = out / "checkpoints"
    return {name for name in os.listdir(folder) if name[0] != "."} if folder.exists() else set()


def killing(folder: Path, wanted: dict[str, str], kills: int, took: float, careless: bool) -> Any:
    """Runs that are killed so often, against what an undisturbed one left. A careless one is
    damaged at each kill, and left as soon as it was noticed."""
    found = {"kills": 0, "damaged": 0, "finished": 0, "failed": 0, "different": 0}
    dice, out = random.Random(0), folder / "killed"
    while found["kills"] < kills or out.exists():
        child = forked(lambda: train(folder, out, careless=careless))
        if found["kills"] < kills:
            sleep_until_killed(child, out, took, dice)
            os.kill(child, signal.SIGKILL)  # harmless if it has ended, for it was not waited for
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            found["kills"] += 1
            found["damaged"] += (careless or found["kills"] % 2) and damage(out, dice)
            continue
        if status:
            found["failed"] += 1
        else:
            found["finished"] += 1
            found["different"] += left(out) != wanted
        shutil.rmtree(out)
        if careless and found["failed"] + found["different"]:
            break
    return found


def main(folder: Path, kills: int, careless: int) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    image = rng.integers(0, 200, (90, 8, 8, 3)) + 25 * label[:, None, None, None]
    np.savez(
        folder / "pictures.npz", x_train=image[:60].astype(np.uint8), y_train=label[:60],
        x_test=image[60:].astype(np.uint8), y_test=label[60:],
    )  # fmt: skip
    config.check(config.parse(table(folder / "pictures.npz"), "the table", names=True))  # imports
    gc.collect()
    gc.freeze()  # no child goes through what was imported
    whole = folder / "whole"
    assert os.waitpid(forked(lambda: train(folder, whole, careless=False)), 0)[1] == 0
    begun = time.perf_counter()  # once more, with everything compiled: how long a run takes
    again = folder / "again"
    assert os.waitpid(forked(lambda: train(folder, again, careless=False)), 0)[1] == 0
    took = time.perf_counter() - begun
    wanted = left(whole)
    assert left(again) == wanted
    found = killing(folder, wanted, kills, took, careless=False)
    found |= {"careless": killing(folder, wanted, careless, took, careless=True)}
    print(json.dumps(found | {"seconds_of_a_run": round(took, 2)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
