"""Updates and schedules beside PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tlx.config import OptimizerConfig
from tlx.planning.optimizer import schedule, transform

STEPS = 20


def start():
    rng = np.random.default_rng(0)
    return {
        "kernel": rng.normal(size=(4, 3)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }


def ours(config, multipliers=None):
    params = jax.tree.map(jnp.asarray, start())
    multipliers = multipliers or {"kernel": 1.0, "bias": 1.0}
    tx = transform(config, start=0, steps=STEPS, multipliers=multipliers)
    state = tx.init(params)
    hyper = {
        "learning_rate": jnp.float32(config.learning_rate),
        "weight_decay": jnp.float32(config.weight_decay),
    }
    for step in range(STEPS):
        grads = jax.grad(lambda p: jnp.sum(jnp.sin(p["kernel"])) + jnp.sum(p["bias"] ** 3))(params)
        updates, state = tx.update(grads, state, params, hyper=hyper, step=jnp.int32(step))
        params = jax.tree.map(jnp.add, params, updates)
    return params


def theirs(make):
    """The same problem in PyTorch; weight decay for the kernel alone."""
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start().items()}
    optimizer = make(params)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (params["kernel"].sin().sum() + (params["bias"] ** 3).sum()).backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in params.items()}


def groups(params, decay):
    return [
        {"params": [params["kernel"]], "weight_decay": decay},
        {"params": [params["bias"]], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (
            {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            lambda p: torch.optim.SGD(groups(p, 0.1), lr=0.02, momentum=0.9, nesterov=True),
        ),
        ({"name": "sgd", "momentum": 0.0}, lambda p: torch.optim.SGD(groups(p, 0.0), lr=0.02)),
        (
            {"name": "adam", "weight_decay": 0.1},
            lambda p: torch.optim.Adam(groups(p, 0.1), lr=0.02),
        ),
        (
            {"name": "adamw", "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(groups(p, 0.1), lr=0.02),
        ),
    ],
)
def test_equals_pytorch(config, make):
    found = ours(OptimizerConfig(learning_rate=0.02, schedule="constant", **config))
    for name, value in theirs(make).items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-5)


def test_a_multiplier_of_zero_keeps_a_leaf():
    config = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9)
    found = ours(config, {"kernel": 1.0, "bias": 0.0})
    np.testing.assert_array_equal(found["bias"], start()["bias"])
    assert not np.array_equal(found["kernel"], start()["kernel"])


def test_one_cycle_equals_pytorch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=101, pct_start=0.25, cycle_momentum=False
    )
    expected = []
    for _ in range(100):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    config = OptimizerConfig(schedule="one_cycle", warmup=0.25)
    found = [float(schedule(config, jnp.int32(step), 100)) for step in range(100)]
    # PyTorch counts the peak from step 0 of 101, we from 0 of 100: one step apart at most.
    assert np.max(np.abs(np.array(found) - expected)) < 0.04
    assert max(found) == pytest.approx(1.0)
    assert found[0] == pytest.approx(1 / 25)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_schedules_warm_up_and_end(name):
    config = OptimizerConfig(schedule=name, warmup=0.2)
    found = [float(schedule(config, jnp.int32(step), 50)) for step in range(51)]
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert found[10] == 1
    assert found[50] == (1 if name == "constant" else pytest.approx(0, abs=1e-6))
    half = {"constant": 1.0, "cosine": 0.5, "linear": 0.5}[name]
    assert found[30] == pytest.approx(half, abs=1e-6)


def test_clip_limits_the_norm_over_what_moves():
    config = OptimizerConfig(name="sgd", momentum=0.0, clip=1.0, schedule="constant")
    tx = transform(config, start=0, steps=1, multipliers={"a": 1.0, "b": None})
    params = {"a": jnp.array([3.0, 4.0]), "b": None}
    hyper = {"learning_rate": jnp.float32(1), "weight_decay": jnp.float32(0)}
    updates, _ = tx.update(params, tx.init(params), params, hyper=hyper, step=jnp.int32(0))
    np.testing.assert_allclose(updates["a"], [-0.6, -0.8], rtol=1e-6)
