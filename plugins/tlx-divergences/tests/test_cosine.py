"""The angle between kernels against torch's, and where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_divergences.cosine import cosine

from tlx.errors import ConfigError
from tlx.quantities import asked


def network(seed):
    rng = np.random.default_rng(seed)
    return {
        "conv": {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4)},
        "top": {"kernel": rng.normal(size=(4, 2))},
    }


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_is_torchs_mean_over_kernels(seed):
    now, then = network(seed), network(seed + 1)
    angles = [
        1 - torch.cosine_similarity(*(torch.tensor(net[name]["kernel"]).ravel() for net in pair), 0)
        for name, pair in (("conv", (now, then)), ("top", (now, then)))
    ]
    with jax.enable_x64(True):
        found = cosine(params=now, source_params=then)
    assert float(found) == pytest.approx(float(sum(angles)) / 2, rel=1e-12)


def test_sees_directions_only():
    assert asked(cosine) == {"params", "source_params"}
    start = network(0)
    longer = {
        "conv": {"kernel": 3 * start["conv"]["kernel"], "bias": -start["conv"]["bias"]},
        "top": {"kernel": 0.1 * start["top"]["kernel"]},
    }
    assert float(cosine(params=longer, source_params=start)) == pytest.approx(0, abs=1e-12)
    opposite = jax.tree.map(lambda w: -2 * w, start)
    assert float(cosine(params=opposite, source_params=start)) == pytest.approx(2)


@pytest.mark.parametrize("angle", [1e-3, 1e-5])
def test_small_angles_do_not_drown_in_single_precision(angle):
    """1 − cos θ is θ²/2, of which 1 minus a float32 would leave nothing."""
    start = {"kernel": jnp.asarray([[1.0, 0.0]])}
    now = {"kernel": jnp.asarray([[np.cos(angle), np.sin(angle)]], jnp.float32)}
    found = cosine(params=now, source_params=start)
    assert float(found) == pytest.approx(angle**2 / 2, rel=1e-3)


def test_kernels_of_zeros():
    """None in the source holds nothing; one that has become zero is at a right angle."""
    some, none = {"kernel": jnp.ones((2, 2))}, {"kernel": jnp.zeros((2, 2))}
    for now, then, by_hand in ((none, none, 0), (some, none, 0), (none, some, 1)):
        value, slope = jax.value_and_grad(lambda w, to=then: cosine(params=w, source_params=to))(
            now
        )
        assert value == by_hand
        assert (slope["kernel"] == 0).all()


def test_refuses_a_backbone_without_kernels():
    with pytest.raises(ConfigError, match="this backbone has none"):
        cosine(params={"scale": jnp.ones(3)}, source_params={"scale": jnp.ones(3)})
