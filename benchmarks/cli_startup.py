"""How long the command line takes to answer when it needs no jax.

Wall seconds of whole processes, each the median of several runs after a warm-up:

    python benchmarks/cli_startup.py

Expected on a 2-core CPU: `tlx --help` below 0.2 s.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "tlx --help": [sys.executable, "-m", "tlx.cli", "--help"],
    "tlx plugins": [sys.executable, "-m", "tlx.cli", "plugins"],
    "tlx show (no such file)": [sys.executable, "-m", "tlx.cli", "show", "nothing.toml"],
}


def seconds(command: list[str], runs: int = 11) -> float:
    """Median wall seconds of a process."""
    taken = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        subprocess.run(command, capture_output=True, check=False)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    found = {name: round(seconds(command), 3) for name, command in COMMANDS.items()}
    print(json.dumps(found, indent=2))
