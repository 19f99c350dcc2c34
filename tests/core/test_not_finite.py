"""Leaves that must not be kept, and what the first bad metric says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.devices.not_finite import counters, guarded, lost
from tlx.training.diverged import left_out, stopping
from tlx.training.logged import logged
from tlx.types import TrainState, Variables


def state(params, kept=(), opt_state=()):
    return TrainState(jnp.int32(3), params, dict(kept), opt_state, jax.random.key(0), {})


def test_leaves_are_named_unless_they_were_like_that_to_begin_with():
    fine = {"w": jnp.ones(3), "count": jnp.int32(2), "key": jax.random.key(1)}
    start = Variables(fine, {"mask": jnp.asarray([0.0, -jnp.inf])})
    assert lost(state(fine, start.state), start) == []
    bad = {**fine, "w": jnp.asarray([1, jnp.nan, 1])}
    assert lost(state(bad, start.state, (jnp.float32(jnp.inf),)), start) == [
        "params/w", "optimizer/0",
    ]  # fmt: skip
    assert lost(state({**fine, "w": jnp.ones(3, jnp.bfloat16) / 0}), start) == ["params/w"]


def test_a_ledger_that_does_not_ask_changes_nothing():
    before, after, metrics = state({"w": jnp.ones(2)}), state({"w": jnp.zeros(2)}), {"loss": 1.0}
    assert counters("stop") == {}
    found, said = guarded(before, after, metrics, {"w": jnp.full(2, jnp.nan)})
    assert found is after
    assert said is metrics


def metrics(**changed):
    plain = {"task": [2, 1, 0.5], "divergence/kl": [0.2] * 3, "divergence/kl/weighted": [0.1] * 3}
    found = {name: np.asarray(value, np.float32) for name, value in {**plain, **changed}.items()}
    return {"loss": found["task"] + found["divergence/kl/weighted"], **found}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task": [2, NAN, 1]}, "The task loss is nan at step 9; the loss was 2.1 a step before."),
        ({"task": [INF, 1, 1]}, "The task loss is inf at step 8."),
        (
            {"divergence/kl": [1, 1, NAN], "divergence/kl/weighted": [0.1, 0.1, NAN]},
            "The divergence 'kl' is nan at step 10; the loss was 1.1 a step before.",
        ),
        (
            {"divergence/kl/weighted": [INF, 0, 0]},
            "The weighted divergence 'kl' is inf at step 8.",
        ),
        (
            {"loss": [1, INF, 1]},
            "The sum of the loss is inf at step 9; the loss was 1 a step before.",
        ),
        (
            {"task": [2, NAN, 1], "divergence/kl": [0, INF, 0]},
            "The task loss is nan, the divergence 'kl' is inf at step 9; the loss was 2.1 a step "
            "before.",
        ),
    ],
)  # fmt: skip
def test_the_first_bad_step_says_which_part(changed, said):
    assert stopping(metrics(**changed), until=10) == said


def test_finite_metrics_say_nothing():
    assert stopping(metrics(), until=10) == left_out(metrics(), until=10) == ""


def test_means_are_of_the_updates_that_were_taken():
    counts = {"skipped": np.asarray([4, 5, 5]), "skipped_in_a_row": np.asarray([0, 1, 0])}
    found = {**metrics(task=[2, NAN, 1]), "skipping": counts}
    assert logged(found, None) == {
        "task": 1.5, "divergence/kl": pytest.approx(0.2), "loss": pytest.approx(1.6),
        "divergence/kl/weighted": pytest.approx(0.1), "skipped": 5,
    }  # fmt: skip
    none = {**found, "skipping": {**counts, "skipped_in_a_row": np.asarray([1, 2, 3])}}
    assert np.isnan(logged(none, None)["loss"])
