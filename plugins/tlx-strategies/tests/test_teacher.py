"""The teacher: a copy at first, then the moving average that a loop gives."""

import jax.numpy as jnp
import numpy as np
from tlx_strategies import teacher


def numbers(seed):
    rng = np.random.default_rng(seed)
    body = {"w": jnp.asarray(rng.normal(size=3), jnp.float32), "steps": jnp.int32(seed)}
    own = {name: {"w": jnp.asarray(rng.normal(size=2))} for name in ("projector", "predictor")}
    return {"backbone": body, "strategy": own}


def test_it_begins_as_the_student_without_what_only_the_student_has():
    params, state = numbers(0), numbers(1)
    began = teacher.begin(params, state, ("projector", "prototypes"))
    made = began["strategy"]["teacher"]
    for mine, theirs in ((made["params"], params), (made["state"], state)):
        assert mine["backbone"] is theirs["backbone"]
        assert mine["strategy"] == {"projector": theirs["strategy"]["projector"]}
    assert began["strategy"]["predictor"] is state["strategy"]["predictor"]


def test_it_follows_as_a_loop_over_the_published_formula_does():
    state = teacher.begin(numbers(0), numbers(9), ("projector",))
    expected = np.asarray(numbers(0)["backbone"]["w"], np.float64)
    steps, start = 20, 0.9
    for step in range(steps):
        student = numbers(step + 1)
        state = teacher.follow(student, state, start=start, progress=jnp.float32(step / steps))
        tau = 1 - (1 - start) * (np.cos(np.pi * step / steps) + 1) / 2
        expected = tau * expected + (1 - tau) * np.asarray(student["backbone"]["w"])
    found = state["strategy"]["teacher"]
    np.testing.assert_allclose(found["params"]["backbone"]["w"], expected, rtol=1e-5, atol=1e-6)
    assert found["params"]["backbone"]["steps"].dtype == jnp.int32
    np.testing.assert_array_equal(
        found["state"]["backbone"]["w"], numbers(9)["backbone"]["w"]
    )  # batch statistics come from its own passes


def test_it_rests_exactly_where_the_student_rests():
    params = numbers(0)
    state = teacher.begin(params, numbers(1), ("projector",))
    after = teacher.follow(params, state, start=0.9, progress=jnp.float32(0.3))
    made = after["strategy"]["teacher"]["params"]
    np.testing.assert_array_equal(made["backbone"]["w"], params["backbone"]["w"])


def test_the_momentum_goes_from_where_it_starts_to_one():
    found = [float(teacher.momentum(0.996, jnp.float32(p))) for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(found, [0.996, 0.998, 1.0], rtol=1e-6)
