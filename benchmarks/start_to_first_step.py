"""How long a fine-tuning run takes to its first step, from the start of the process.

A ResNet-18 on random pictures, batch 16, with an empty and with a warm compilation cache,
interleaved, each in a process of its own: interpreter, imports, data, weights at random, compiling
and one step, whose result is waited for. `cpu` are the process's own seconds on all cores, which
other jobs disturb less than the wall's.

    python benchmarks/start_to_first_step.py [--size 64] [--rounds 5] [--json FILE]

Expected on a 2-core CPU: the warm cache saves most of what compiling takes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

RUN = """
data = { name = "npz", path = "%s" }
backbone = "resnet18"
steps = 1
batch_size = 16
sink = ["%s:FirstStep"]
"""


class FirstStep:
    """A sink: ends the process when the first step is done, which its metrics say."""

    def emit(self, event) -> None:
        if event.kind == "start":
            print("start", time.time())
        elif event.kind == "compile" and event.data["seconds"] is not None:
            print("compile", event.data["seconds"])
        elif event.kind == "train":
            print("step", time.time(), flush=True)
            os._exit(0)

    def close(self) -> None:
        """Nothing is open."""


def once(folder: Path, cache: Path) -> dict[str, float]:
    """Seconds of a process: until the run is assembled, of compiling the step, until it is done."""
    begun, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "tlx.cli", "run", "run.toml", "--out", "out", "--overwrite"],
        cwd=folder,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = (line.split() for line in done.stdout.splitlines())
    said = {line[0]: float(line[1]) for line in lines if line and line[0] in SAID}
    assert said.keys() == SAID, done.stdout + done.stderr
    return {
        "assembled": said["start"] - begun,
        "compile": said["compile"],
        "first_step": said["step"] - begun,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


SAID = {"start", "compile", "step"}
NOTE = (
    "Other jobs may have run on the machine, which stretches wall seconds: compare medians of the "
    "two caches with each other, and cpu, the process's own seconds on all cores."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"empty cache": [], "warm cache": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (200, args.size, args.size, 3), np.uint8)
        np.savez(folder / "data.npz", x_train=images, y_train=np.arange(200) % 10)
        (folder / "run.toml").write_text(RUN % (folder / "data.npz", Path(__file__).resolve()))
        for number in range(args.rounds):
            cache = folder / f"compiled{number}"
            for of in found:  # the second finds what the first has compiled
                found[of].append(once(folder, cache))
                print(of, found[of][-1], file=sys.stderr)
    from tlx.reporting.describe import device, versions

    seconds = {
        of: {
            part: {
                "min": round(min(one[part] for one in rounds), 2),
                "median": round(statistics.median(one[part] for one in rounds), 2),
            }
            for part in rounds[0]
        }
        for of, rounds in found.items()
    }
    result = {
        "backbone": "resnet18",
        "batch": 16,
        "size": args.size,
        "rounds": args.rounds,
        "seconds": seconds,
        "note": NOTE,
        "device": device(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
    }
    text = json.dumps(result, indent=2)
    if args.json:
        args.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
