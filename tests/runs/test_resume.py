"""A run that was interrupted and resumed ends bit-identical to one that was not."""

import os
import signal

import jax
import jax.numpy as jnp
import pytest

import tlx
from tlx.checkpoint import Checkpoints
from tlx.errors import DataError, Interrupted
from tlx.feeding import device_rows
from tlx.training.profile import Clock

STRATEGY = {"name": "probe_then_finetune", "probe": 0.4}


AUGMENTED = {
    "strategy": STRATEGY,
    "augmentation": ["flip", {"name": "crop", "padding": 1}, "mixup"],
}
ONCE = {
    # Cached stages, a second stream, quantities computed beforehand, a weight that moves.
    "strategy": {"name": "finetune", "frozen": ["stage1"], "norm": "recompute"},
    "divergence": [
        {"name": "coral", "weight": 0.1, "schedule": "dann"},
        {"name": "dann", "weight": 0.1},
    ],
}
# Rows by number, several steps in a call: a signal is heard where a call ends.
NUMBERED = {"strategy": "feature_transfer", "eval_every": 0.25}


def stumbling(*, head_params, progress):
    """Not a number in the 2nd, the 6th and the 9th of 12 steps."""
    step = jnp.round(progress * 12)
    length = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(head_params))
    return length + jnp.where((step == 1) | (step == 5) | (step == 8), jnp.nan, 0)


REDUCED = {
    "optimizer": {"name": "adam", "learning_rate": 0.01, "on_nan": "reduce_lr"},
    "divergence": [{"name": f"{__file__}:stumbling", "weight": 0.1}],
}
SOLVED = {"strategy": {**STRATEGY, "solver": "newton"}}
SELECTED = {"metric": ["macro_f1", "auroc"], "selection": {"metric": "macro_f1"}}


@pytest.mark.parametrize(
    ("changes", "stops"),
    [
        (AUGMENTED, [3]),
        (AUGMENTED, [5, 1, 4]),
        (ONCE, [5]),
        (NUMBERED, [3]),
        (SOLVED, [3]),
        (REDUCED, [2, 4]),
        (NUMBERED | REDUCED, [2]),
        (NUMBERED | SELECTED, [3]),
    ],
    ids=[
        "in the probe",
        "thrice",
        "cached",
        "numbered",
        "after a solved probe",
        "reduced",
        "reduced and numbered",
        "selected by a metric of the split",
    ],
)
def test_resumed_equals_uninterrupted(
    tiny, pictures, tmp_path, monkeypatch, changes, stops, digests, stopping_after
):
    domain = {"name": "npz", "path": str(pictures)}
    changes = {**changes, "domain": domain} if changes is ONCE else changes
    table = tiny(**changes, checkpoint_seconds=60.0)
    tlx.run(table, out=tmp_path / "whole")
    out = tmp_path / "stopped"
    resume = False
    for steps in stops:
        with monkeypatch.context() as patch:
            stopping_after(patch, steps)
            with pytest.raises(Interrupted, match=r"Stopped at step \d+ of 12 and saved.*--resume"):
                tlx.run(table, out=out, resume=resume)
        resume = True
    result = tlx.run(table, out=out, resume=True)
    assert digests(out) == digests(tmp_path / "whole")
    assert result["steps"] == 12
    assert result.get("skipped") == (3 if "optimizer" in changes else None)


def test_a_run_with_balanced_classes_goes_on_where_it_stopped(
    tiny, tmp_path, monkeypatch, digests, stopping_after
):
    table = tiny()
    table["data"] |= {"sampling": "balanced", "limit": 11}
    tlx.run(table, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping_after(patch, 5)
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "stopped")
    result = tlx.run(table, out=tmp_path / "stopped", resume=True)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")
    assert result["examples"]["train"] == 33


def test_a_run_with_its_pictures_on_the_device_goes_on_where_it_stopped(
    tiny, tmp_path, monkeypatch, digests, stopping_after
):
    monkeypatch.setattr(device_rows, "loops_well", lambda: True)  # as of an accelerator
    table = tiny(eval_every=0.3, augmentation=["flip"])  # few steps in a call: quick to compile
    tlx.run(table, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "stopped")
    tlx.run(table, out=tmp_path / "stopped", resume=True)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_a_damaged_checkpoint_is_passed_over(tiny, tmp_path, monkeypatch, digests, stopping_after):
    table = tiny()
    tlx.run(table, out=tmp_path / "whole")
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stopping_after(patch, 7)
        with pytest.raises(Interrupted):
            tlx.run(table, out=out)
    newest = max((out / "checkpoints").iterdir())
    target = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    tlx.run(table, out=out, resume=True)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_real_signal_saves_and_stops(tiny, tmp_path, monkeypatch):
    real = Clock.next

    def killing(clock, batches):
        if not killing.done:
            killing.done = True
            os.kill(os.getpid(), signal.SIGTERM)
        return real(clock, batches)

    killing.done = False
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Clock, "next", killing)
    with pytest.raises(Interrupted, match="Stopped at step 1 of 12"):
        tlx.run(tiny(), out=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == (1,)


def test_a_run_that_failed_before_its_first_checkpoint_starts_again(tiny, tmp_path, pictures):
    gone = pictures.with_name("elsewhere.npz")
    table = tiny(data={"name": "npz", "path": str(gone), "val": 21})
    with pytest.raises(DataError):
        tlx.run(table, out=tmp_path / "run")
    gone.write_bytes(pictures.read_bytes())
    assert tlx.run(table, out=tmp_path / "run", resume=True)["steps"] == 12
