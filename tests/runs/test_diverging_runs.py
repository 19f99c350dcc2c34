"""Runs whose loss or gradient is not finite: what they say, what they keep, and how they go on."""

import json
import re
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tlx
from tlx import loop
from tlx.checkpoint import Checkpoints
from tlx.errors import DivergedError

HERE = __file__
NUMBERED = {"strategy": "feature_transfer"}
PARTS = {"step": {"name": "jit", "accumulate": 2}}
WAYS = {"one by one": {}, "several in a call": NUMBERED, "in parts": PARTS}


def broken(*, head_params, progress):
    """Not a number from the middle of the run on."""
    return length(head_params) + jnp.where(progress < 0.5, 0, jnp.nan)


def stumbling(*, head_params, progress):
    """Not a number in the 4th and the 10th of 12 steps."""
    step = jnp.round(progress * 12)
    return length(head_params) + jnp.where((step == 3) | (step == 9), jnp.nan, 0)


def kinked(*, head_params, progress):
    """A distance of 0 in the 6th of 12 steps, whose derivative divides by it."""

    def distance(head):
        still = jax.tree.map(jax.lax.stop_gradient, head)
        return jnp.sqrt(length(jax.tree.map(jnp.subtract, head, still)))

    return jax.lax.cond(jnp.round(progress * 12) == 5, distance, length, head_params)


def length(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def with_divergence(tiny, name, on_nan="stop", **changes):
    divergence = [{"name": f"{HERE}:{name}", "label": name, "weight": 0.1}]
    optimizer = {"name": "adam", "learning_rate": 0.01, "schedule": "constant", "on_nan": on_nan}
    return tiny(divergence=divergence, optimizer=optimizer, **changes)


def events(out, kind):
    lines = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def warned(output):
    """The warnings on the console."""
    return re.findall(r"warning +(.*)", output)


def on_disk(out):
    with Checkpoints(out / "checkpoints") as checkpoints:
        return checkpoints.steps()


@pytest.mark.parametrize("way", WAYS)
def test_the_part_and_the_step_are_named(tiny, tmp_path, way):
    table = with_divergence(tiny, "broken", log_every=5, eval_every=2, **WAYS[way])
    said = (
        r"The divergence 'broken' is nan at step 7; the loss was [\d.]+ a step before\. "
        r"Lower \[optimizer\] learning_rate \(now 0\.01\).*on_nan = .skip.*Nothing was saved yet"
    )
    with pytest.raises(DivergedError, match=said):
        tlx.run(table, out=tmp_path / "run")
    assert on_disk(tmp_path / "run") == ()


def test_what_is_kept_is_finite(tiny, tmp_path):
    """The loss of the 6th step is finite and its gradient is not: an evaluation and a checkpoint
    are due before any loss says so. An accuracy is finite whatever the numbers are."""
    table = with_divergence(tiny, "kinked", log_every=1, eval_every=3 / 7)
    said = r"gradient at step 6, or the update.*params/head/\w+ and \d+ more.*of step 3, is finite"
    with pytest.raises(DivergedError, match=said):
        tlx.run(table, out=tmp_path / "run")
    assert on_disk(tmp_path / "run") == (3,)
    assert [event["step"] for event in events(tmp_path / "run", "eval")] == [3]


def test_a_signal_saves_nothing_that_is_not_finite(tiny, tmp_path, monkeypatch):
    """It comes while losses wait to be looked at."""

    @contextmanager
    def interruptible():
        count = iter(range(1, 1_000))
        yield lambda: next(count) >= 8

    monkeypatch.setattr(loop, "interruptible", interruptible)
    table = with_divergence(tiny, "broken", log_every=50, eval_every=2)
    with pytest.raises(DivergedError, match="'broken' is nan at step 7;"):
        tlx.run(table, out=tmp_path / "run")
    assert on_disk(tmp_path / "run") == ()


@pytest.mark.parametrize("way", WAYS)
def test_skipped_updates_are_counted_and_said(tiny, tmp_path, capsys, way):
    table = with_divergence(tiny, "stumbling", "skip", log_every=4, eval_every=2, **WAYS[way])
    result = tlx.run(table, out=tmp_path / "run")
    assert (result["steps"], result["skipped"]) == (12, 2)
    assert warned(capsys.readouterr().out) == [
        f"1 of the 4 updates up to step {step} left out, {count} in all: "
        f"the divergence 'stumbling' is nan at step {at}."
        for step, count, at in ((4, 1, 4), (12, 2, 10))
    ]
    train = events(tmp_path / "run", "train")
    assert [event["skipped"] for event in train] == [1, 1, 2]
    assert all(np.isfinite(event["loss"]) for event in train)


def test_a_gradient_alone_is_told_apart_where_updates_are_left_out(tiny, tmp_path, capsys):
    result = tlx.run(with_divergence(tiny, "kinked", "skip"), out=tmp_path / "run")
    assert result["skipped"] == 1
    (warning,) = warned(capsys.readouterr().out)
    assert "the gradient is not finite at step 6." in warning


def test_too_many_in_a_row_stop_the_run(tiny, tmp_path):
    table = with_divergence(tiny, "broken", "skip", log_every=7, steps=60, eval_every=1)
    said = r"20 updates in a row had to be left out, the last at step 50: the divergence 'broken'"
    with pytest.raises(DivergedError, match=said + r" is nan\. .*of step 49, is finite"):
        tlx.run({**table, "checkpoint_seconds": 0}, out=tmp_path / "run")


def test_the_learning_rate_is_halved_each_time(tiny, tmp_path, capsys):
    table = with_divergence(tiny, "stumbling", "reduce_lr", log_every=1, eval_every=2)
    tlx.run(table, out=tmp_path / "run")
    rates = [event["learning_rate"] for event in events(tmp_path / "run", "train")]
    np.testing.assert_allclose(rates, [0.01] * 3 + [0.005] * 6 + [0.0025] * 3, rtol=1e-6)
    said = warned(capsys.readouterr().out)
    assert [text.rpartition(" is down to ")[2] for text in said] == [
        "0.5 of itself.", "0.25 of itself.",
    ]  # fmt: skip
