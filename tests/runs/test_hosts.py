"""Several processes are one run: they end with what one process with as many devices ends with,
and where one of them dies or is asked to stop, all stop and can go on.

Two processes on this machine, joined by JAX's own runtime over the loopback, as on two hosts.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import tomli_w
from safetensors.numpy import load_file

from tlx.sinks import read_jsonl

HEARTBEAT, ALARM = 10, 600
PROGRAM = """
import os, signal, sys

signal.alarm({alarm})  # nothing is left behind, whatever becomes of the test
from tlx import checkpoint, cli
from tlx.devices import mesh

mesh.SMALL = 1  # every leaf that can be cut is
when, *arguments = sys.argv[1:]
saved = []


def save(self, step, *rest):
    done = real(self, step, *rest)
    saved.append(step)
    if len(saved) == 1 and when and os.environ["JAX_PROCESS_ID"] == "1":
        os.kill(os.getpid(), int(when))
    return done


real, checkpoint.Checkpoints.save = checkpoint.Checkpoints.save, save
sys.exit(cli.main(["run", *arguments]))
""".replace("{alarm}", str(ALARM))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Where the tests of this file run, so that they compile a program once."""
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture
def run_file(tiny, here):
    """A run file for a grid. SGD, because Adam makes much of the last bit of a gradient of 0."""

    def written(name, grid, **changes):
        path = here / f"{name}.toml"
        path.write_text(tomli_w.dumps(tiny(
            batch_size=12, optimizer={"name": "sgd", "learning_rate": 0.05},
            mesh={**grid, "heartbeat_seconds": HEARTBEAT}, **changes,
        )))  # fmt: skip
        return path

    return written


@pytest.fixture
def whole(run_file, here):
    """(run file, folder, what each process printed) of two processes with two devices each."""
    by = {"metric": ["macro_f1"], "selection": {"metric": "macro_f1"}}
    path, out = run_file("grid", {"data": 2, "fsdp": 2}, **by), here / "whole"
    if not out.exists():
        said = ran(here, 2, 2, path, "--out", out)
        (here / "said.json").write_text(json.dumps(said))
    return path, out, json.loads((here / "said.json").read_text())


@contextmanager
def started(here, processes, devices, *arguments, when=""):
    """`tlx run` in so many processes with so many devices each; none outlives the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(here / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TLX_CACHE": str(here / "cache"),
    }
    running = []
    try:
        for number in range(processes):
            joined = {
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(number),
            }
            running.append(subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(when), *map(str, arguments)],
                env=common | (joined if processes > 1 else {}),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ))  # fmt: skip
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def ran(here, processes, devices, *arguments, when="", codes=(0, 0)):
    """What each process printed: (output, errors)."""
    with started(here, processes, devices, *arguments, when=when) as running:
        said = [process.communicate(timeout=ALARM) for process in running]
        ended = [process.returncode for process in running]
    assert ended == list(codes[:processes]), "\n".join(map("\n".join, said))
    return said


def differing(out, other):
    """The tensors of two runs' models that are not the same to the last bit."""
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (out, other))
    assert any("mean" in name for name in one), list(one)
    return [name for name in one if one[name].tobytes() != two[name].tobytes()]


def same_to_rounding(out, other):
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (out, other))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_two_processes_with_two_devices_each(whole, here):
    """Four numbers are added in another order than within one process, so that the last bits
    differ. The first process alone speaks and writes; every example of a split counts once."""
    path, out, (first, second) = whole
    ran(here, 1, 4, path, "--out", here / "one")
    assert "4 device(s) of 2 processes, mesh data 2 × fsdp 2" in first[0]
    assert "val macro f1" in first[0]
    assert "val macro f1" not in second[0]
    same_to_rounding(here / "one", out)
    results = [json.loads((folder / "result.json").read_text()) for folder in (here / "one", out)]
    assert results[0]["test"] == pytest.approx(results[1]["test"], rel=1e-5)
    assert len(read_jsonl(here / "one" / "metrics.jsonl")) == len(read_jsonl(out / "metrics.jsonl"))


@pytest.mark.parametrize(
    "way",
    [pytest.param(end, marks=pytest.mark.slow) for end in (signal.SIGKILL, signal.SIGTERM)],
    ids=["killed", "asked to stop"],
)
def test_what_stops_one_stops_all_and_they_go_on_to_the_same_bits(whole, here, way):
    path, out = whole[0], here / way.name
    codes = (1, -way) if way == signal.SIGKILL else (130, 130)
    first, second = ran(here, 2, 2, path, "--out", out, when=int(way), codes=codes)
    if way == signal.SIGKILL:
        assert "Another host of this run has gone" in first[1]
    else:
        assert "Stopped at step 3 of 12 and saved" in first[1]
        assert "Stopped at step 3 of 12 and saved" in second[1]
    assert [step.name for step in (out / "checkpoints").glob("0*")] == ["00000003"]
    alone = here / f"{way.name}_alone"
    shutil.copytree(out, alone)
    ran(here, 2, 2, path, "--out", out, "--resume")
    assert differing(out, whole[1]) == []
    ran(here, 1, 4, path, "--out", alone, "--resume")  # one process has all devices now
    same_to_rounding(alone, out)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_two_processes_are_two_devices_to_the_last_bit(run_file, here, axis):
    """With a table of what the frozen stage says, too, which each process has."""
    path = run_file(axis, {axis: 2}, strategy={"name": "finetune", "frozen": ["stage1"]})
    one, two = here / f"{axis}1", here / f"{axis}2"
    ran(here, 1, 2, path, "--out", one)
    ran(here, 2, 1, path, "--out", two)
    assert differing(one, two) == []
    for a, b in zip(*(read_jsonl(out / "metrics.jsonl") for out in (one, two)), strict=True):
        assert {**a, "features_per_second": 0} == {**b, "features_per_second": 0}


@pytest.mark.slow
def test_variants_and_stages_run_on_several_hosts(run_file, here):
    """Every process goes through all runs of a study; the first writes and compares."""
    variants = run_file("variants", {"data": 2}, steps=4, variant=[
        {"name": "all"}, {"name": "head", "strategy": "feature_transfer"},
    ])  # fmt: skip
    stages = run_file("stages", {"data": 2}, steps=4, stage=[
        {"name": "first"}, {"name": "then", "strategy": "feature_transfer"},
    ])  # fmt: skip
    for path, folders in ((variants, ("all", "head")), (stages, ("first", "then"))):
        one, two = here / f"{path.stem}1", here / f"{path.stem}2"
        ran(here, 1, 2, path, "--out", one)
        first, second = ran(here, 2, 1, path, "--out", two)
        assert "accuracy" in first[0]
        assert "accuracy" not in second[0]
        for folder in folders:
            assert differing(one / folder, two / folder) == []


def test_hosts_that_cannot_be_found_are_a_sentence(whole, here):
    out = ["--out", here / "none", "--set", "mesh.hosts=true"]
    ((_, errors),) = ran(here, 1, 4, whole[0], *out, codes=(1,))
    assert "The other hosts of this run cannot be joined" in errors
    assert not (here / "none").exists()
