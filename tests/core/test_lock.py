"""One process writes into a folder: another is refused, and a killed one leaves nothing behind."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from tlx.errors import CheckpointError
from tlx.run_folder import lock

HOLDING = """
import sys, time
from pathlib import Path
from tlx.run_folder import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_until_it_is_gone(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLDING, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refusal = rf"writing into .*run \(process {other.pid} on"
        with pytest.raises(CheckpointError, match=refusal), lock.held(out):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (out / lock.LOCK).exists()  # and nobody holds it
    with lock.held(out) as said:
        assert said == ""
        assert (out / lock.LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_nothing_is_left(tmp_path):
    made, there, filled = (tmp_path / name for name in ("a/made", "there", "filled"))
    there.mkdir()
    for out in (made, there, filled):
        with lock.held(out):
            assert [path.name for path in out.iterdir()] == [lock.LOCK]
            if out is filled:
                (out / "run.toml").touch()
    assert not made.exists()
    assert list(there.iterdir()) == []
    assert [path.name for path in filled.iterdir()] == ["run.toml"]


def test_a_lock_that_its_holder_has_removed_is_none(tmp_path, monkeypatch):
    """Whoever waits to open it may get the file that another is about to remove."""
    real, opened = fcntl.flock, []

    def flock(file, how):
        if not opened:
            os.unlink(tmp_path / lock.LOCK)
        opened.append(file)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.held(tmp_path), pytest.raises(CheckpointError), lock.held(tmp_path):
        pass
    assert len(opened) == 3


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.held(tmp_path) as said:
        assert "cannot be locked here" in said
        assert "No locks available" in said
    assert list(tmp_path.iterdir()) == []
