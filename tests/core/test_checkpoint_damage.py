"""Checkpoints that were damaged, half written or half deleted are never taken for whole."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.checkpoint import Checkpoints
from tlx.errors import CheckpointError
from tlx.files import manifest
from tlx.trees import flat


def state(step):
    """Some of each kind of number that a run saves, depending on the step."""
    key = jax.random.fold_in(jax.random.key(7), step)
    return {
        "step": jnp.int32(step),
        "rng": key,
        "params": {
            "kernel": jax.random.normal(key, (3, 3, 3, 8)),
            "half": jax.random.normal(key, (5, 8)).astype(jnp.bfloat16),
        },
        "ledger": {"best": jnp.float32("nan"), "since": step},
    }


def bits(tree):
    """Leaf path -> the bytes of a leaf."""
    keyless = {
        path: jax.random.key_data(leaf) if path == "rng" else leaf
        for path, leaf in flat(tree).items()
    }
    return {path: np.asarray(leaf).tobytes() for path, leaf in keyless.items()}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "checkpoints"


def test_left_overs_of_killed_saves_and_deletions_go_away(root):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(3)})
    for name in (".saving-00000002", ".deleting-00000000"):
        shutil.copytree(root / "00000001", root / name)
    (root / ".saving-00000002" / "manifest.json").unlink()
    with Checkpoints(root) as checkpoints:
        found = checkpoints.restore({"w": jnp.ones(3)})
        assert found is not None
        assert found.step == 1
        assert (root / ".saving-00000002").exists()  # a reader may run beside a trainer
        checkpoints.save(2, {"w": jnp.ones(3)})
        assert sorted(p.name for p in root.iterdir()) == ["00000001", "00000002"]


@pytest.mark.parametrize("form", ["os", "text"])
def test_a_full_disk_is_said_and_harms_nothing(root, monkeypatch, form):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, state(1))

        def full(folder):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                if form == "os":
                    raise
                raise ValueError(f"RESOURCE_EXHAUSTED: {error}") from None

        monkeypatch.setattr(manifest, "commit", full)
        with pytest.raises(CheckpointError, match=r"disk is full: step 2 needs about .* MB") as c:
            checkpoints.save(2, state(2))
        assert str(root) in str(c.value)
        monkeypatch.undo()
        assert [p.name for p in root.iterdir()] == ["00000001"]
        found = checkpoints.restore(state(0))
        assert found is not None
        assert bits(found.tree) == bits(state(1))
        checkpoints.save(2, state(2))
        assert checkpoints.steps() == (1, 2)


def test_another_failure_is_not_called_a_full_disk(root, monkeypatch):
    def broken(folder):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(manifest, "commit", broken)
    with Checkpoints(root) as checkpoints, pytest.raises(PermissionError):
        checkpoints.save(1, {"w": jnp.ones(3)})
    assert list(root.iterdir()) == []


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << (place % 8)
    path.write_bytes(bytes(data))


def damages(folder):
    """(name, how) for every file: flips all over it, cut short, grown, gone; and one more file."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, size = path.relative_to(folder), path.stat().st_size
        for place in sorted({0, size // 3, size // 2, size - 1}) if size else []:
            yield f"{name} flipped at {place}", lambda f, n=name, p=place: flip(f / n, p)
        yield f"{name} cut", lambda f, n=name, s=size: os.truncate(f / n, s // 2)
        yield f"{name} grown", lambda f, n=name, s=size: os.truncate(f / n, s + 1)
        yield f"{name} gone", lambda f, n=name: (f / n).unlink()
    yield "one file more", lambda f: (f / "arrays" / "more").write_text("")
    yield "all gone", lambda f: [p.unlink() for p in f.rglob("*") if p.is_file()]


def test_no_damage_is_silent(root, tmp_path):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
    before, like = bits(state(1)), state(0)
    target, whole = root / "00000002", tmp_path / "whole"
    shutil.copytree(target, whole)
    tried, silent = 0, []
    with Checkpoints(root) as checkpoints:
        for name, hurt in list(damages(target)):
            hurt(target)
            if contents(target) == contents(whole):
                continue  # an empty file cannot be cut
            found = checkpoints.restore(like)
            assert found is not None
            exact = found.step == 1 and bits(found.tree) == before
            if not exact or "Checkpoint 2 is damaged" not in " ".join(found.notes):
                silent.append(name)
            tried += 1
            shutil.rmtree(target)
            shutil.copytree(whole, target)
        found = checkpoints.restore(like)
    assert found is not None
    assert found.step == 2, "the damage was never undone, so the rest proves nothing"
    assert silent == []
    assert tried >= 40


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_plain_orbax_does_not_notice_a_flipped_bit(tmp_path):
    """The control: the same flips without our manifest give wrong numbers without a word."""
    import orbax.checkpoint as ocp

    tree = {"w": np.asarray(jax.random.normal(jax.random.key(0), (100, 100)))}
    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    checkpointer.save(tmp_path / "plain", args=ocp.args.PyTreeSave(tree))
    files = [p for p in (tmp_path / "plain").rglob("*") if p.is_file()]
    big = max(files, key=lambda p: p.stat().st_size)
    whole, wrong = big.read_bytes(), 0
    for place in range(1000, 30_000, 3_000):
        flip(big, place)
        found = checkpointer.restore(
            tmp_path / "plain",
            args=ocp.args.PyTreeRestore(
                item=tree, restore_args={"w": ocp.RestoreArgs(restore_type=np.ndarray)}
            ),
        )
        wrong += not np.array_equal(found["w"], tree["w"])
        big.write_bytes(whole)
    checkpointer.close()
    assert wrong > 0


def test_all_steps_damaged_is_an_error_that_names_each(root):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
        for step in checkpoints.steps():
            flip(checkpoints.folder(step) / "step.json", 50)
        with pytest.raises(CheckpointError, match=r"Checkpoint 2 is damaged.*Checkpoint 1 is dam"):
            checkpoints.restore(state(0))


def test_a_run_that_fell_back_arrives_at_the_damaged_step_again(root):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(10, {"w": jnp.full(3, 10)})
        checkpoints.save(20, {"w": jnp.full(3, 20)})
        flip(checkpoints.folder(20) / "step.json", 50)
        checkpoints.save(20, {"w": jnp.full(3, 21)})
        found = checkpoints.restore({"w": jnp.full(3, 0)})
        assert found is not None
        assert (found.step, found.notes, int(found.tree["w"][0])) == (20, (), 21)
        assert checkpoints.steps() == (10, 20)


@pytest.fixture
def killed(tmp_path):
    """What `killed_saves.py` says: way -> its findings."""

    def killed(**kills):
        # In a process of its own: it forks after importing and before jax starts its threads.
        ways = [f"{way}:{count}" for way, count in kills.items()]
        told = subprocess.run(
            [sys.executable, Path(__file__).with_name("killed_saves.py"), tmp_path, *ways],
            capture_output=True,
            text=True,
            timeout=120 + 30 * sum(kills.values()),
            check=False,
        )
        assert told.returncode == 0, told.stderr[-3000:]
        found = {line["way"]: line for line in map(json.loads, told.stdout.splitlines())}
        assert {way: found[way]["kills"] for way in found} == kills
        return found

    return killed


def whole(result):
    assert result["bad"] == []
    assert result["steps"] > 0
    assert result["left_overs"] > 0, "no kill hit a save or a deletion, so nothing was tried"


def test_every_step_on_disk_is_whole_whenever_a_run_is_killed(killed):
    found = killed(careful=100, in_place=6, hasty=6)
    whole(found["careful"])
    # The controls: a manager that writes in place, and one that says too soon that it has saved.
    assert "manifest.json is missing" in " ".join(found["in_place"]["bad"])
    assert "was acknowledged, now the newest is" in " ".join(found["hasty"]["bad"])


@pytest.mark.slow
def test_so_it_is_whenever_it_is_killed_a_thousand_times(killed):
    whole(killed(careful=1000)["careful"])
