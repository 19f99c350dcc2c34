"""Batch norm across devices: a batch on four devices gives the numbers of one device."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tlx_strategies.simclr import simclr
from dataclasses import replace
from tlx import registry
from tlx.model import Model
from tlx.types import Batch, Constants, Variables

SMALL = (("n", 1), ("shortcut", "A"), ("channels", 3))
jax.config.update("jax_enable_x64", True)
backbone = replace(registry.build("backbones", "resnet20", {}), options=SMALL)
model = Model(backbone, None, backbone.inputs)
strategy = simclr(projector=(8, 4), views=("flip",))
rng = np.random.default_rng(0)
batch = Batch({"image": rng.random((8, 8, 8, 3))}, {}, np.arange(8), np.ones(8))
made = model.init(jax.random.key(0), batch)
own = strategy.init(jax.random.key(1), model, batch)
params = jax.tree.map(lambda x: x.astype(jnp.float64), {**made.params, "strategy": own.params})
state = jax.tree.map(
    lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x,
    {**made.state, "strategy": own.state},
)

@jax.jit
def step(params, state, batch):
    def loss(params):
        found = strategy.forward(
            model, Variables(params, state), batch, Constants({}, {}, {}, {}),
            rng=jax.random.key(2), mode="train", progress=jnp.float32(0),
        )
        return found.loss.mean(), found.state
    (value, state_), slope = jax.value_and_grad(loss, has_aux=True)(params)
    return value, state_, slope

assert len(jax.devices()) == 4
spread = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
one = step(params, state, jax.device_put(batch, jax.devices()[0]))
four = step(params, state, jax.device_put(batch, spread))
def apart(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return float(abs(a - b).max() / max(abs(a).max(), 1e-3))
worst = max(jax.tree.leaves(jax.tree.map(apart, one, four)))
assert worst < 1e-4, worst
moved = jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), one[1], state))
assert any(moved)
print("equal")
"""


@pytest.mark.slow
def test_loss_gradient_and_statistics_are_those_of_one_device():
    # Statistics are computed in float32 whatever the rest is in.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
