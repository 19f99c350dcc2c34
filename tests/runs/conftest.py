"""What tests of whole runs share: the README's first command, run once a session for all that look
at what it left, and the digests of what a run left."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tlx import loop
from tlx.checkpoint import Checkpoints

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEWER = {"epochs = 20\n": "epochs = 2\n", "eval_every = 5\n": "eval_every = 1\n",
         "test = 1000\n": "test = 200\n", "epochs = 40 ": "epochs = 4 "}  # fmt: skip
"""Lines of the first command's run file, and what stands in their place here."""


class Ran(NamedTuple):
    """The folder that it was started in, and what it printed."""

    folder: Path
    output: str


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`tlx run examples/digits.toml`, as a user types it; with fewer epochs and test pictures,
    which change numbers and nothing that is said."""
    folder = tmp_path_factory.mktemp("first")
    shutil.copytree(EXAMPLES, folder / "examples")
    run_file = folder / "examples/digits.toml"
    text = run_file.read_text()
    for long, short in FEWER.items():
        assert text.count(f"\n{long}") == 1, f"{long!r}: the run file says it otherwise now."
        text = text.replace(f"\n{long}", f"\n{short}")
    run_file.write_text(text)
    tlx = Path(sys.executable).with_name("tlx")
    done = subprocess.run(
        [tlx, "run", "examples/digits.toml"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Ran(folder, done.stdout)


def digests_of(out: Path) -> dict[str, str]:
    """sha256 of the model's tensors and of every leaf of the last checkpoint."""
    found = {"model": hashlib.sha256((out / "model/model.safetensors").read_bytes()).hexdigest()}
    with Checkpoints(out / "checkpoints") as checkpoints:
        folder = checkpoints.folder(checkpoints.steps()[-1])
    names = json.loads((folder / "step.json").read_text())["leaves"]
    arrays = [name for name, leaf in names.items() if 0 not in leaf["shape"]]
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in arrays}
        args = ocp.args.PyTreeRestore(item=dict.fromkeys(arrays, 0), restore_args=as_numpy)
        leaves = reader.restore(folder / "arrays", args=args)
    for name, value in leaves.items():
        found[name] = hashlib.sha256(np.asarray(value).tobytes()).hexdigest()
    return found


@pytest.fixture
def digests() -> Callable[[Path], dict[str, str]]:
    """`digests_of`."""
    return digests_of


@pytest.fixture
def stopping_after() -> Callable[[pytest.MonkeyPatch, int], None]:
    """(patch, steps) -> the loop believes that a signal came after so many of its own calls."""

    def stop(patch: pytest.MonkeyPatch, steps: int) -> None:
        @contextmanager
        def interruptible() -> Iterator[Callable[[], bool]]:
            count = iter(range(1, 1_000))
            yield lambda: next(count) >= steps

        patch.setattr(loop, "interruptible", interruptible)

    return stop
