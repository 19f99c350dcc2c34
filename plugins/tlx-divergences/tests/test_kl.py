"""KL of outputs against torch's."""

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.special import rel_entr, softmax
from tlx_divergences.kl import KL

from tlx.errors import ConfigError
from tlx.quantities import asked

RNG = np.random.default_rng(0)
NOW = RNG.normal(size=(6, 5)).astype(np.float32) * 4
THEN = RNG.normal(size=(6, 5)).astype(np.float32) * 4


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_value_and_gradient_are_torchs(temperature):
    now = torch.tensor(NOW, requires_grad=True)
    theirs = temperature**2 * torch.nn.functional.kl_div(
        torch.log_softmax(now / temperature, -1),
        torch.softmax(torch.tensor(THEN) / temperature, -1),
        reduction="batchmean",
    )
    theirs.backward()
    ours, slope = jax.value_and_grad(
        lambda z: KL(temperature)(outputs=z, source_outputs=jnp.asarray(THEN))
    )(jnp.asarray(NOW))
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)
    np.testing.assert_allclose(slope, now.grad, rtol=1e-4, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    arrays.arrays(np.float64, (2, 4, 3), elements=st.floats(-20, 20)),
    arrays.arrays(np.float64, (2, 4, 1), elements=st.floats(-100, 100)),
    st.permutations(range(4)),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_scipys_relative_entropy_whatever_the_order_and_the_shift(
    logits, shifts, order, temperature
):
    """Also twice the same batch: a mean per example, and at least 0."""
    now, then = softmax(logits / temperature, -1)
    theirs = temperature**2 * rel_entr(then, now).sum(-1).mean()
    with jax.enable_x64(True):
        divergence = KL(temperature)
        for z, z0 in (
            logits,
            logits + shifts,
            logits[:, list(order)],
            np.concatenate([logits, logits], 1),
        ):
            ours = float(divergence(outputs=jnp.asarray(z), source_outputs=jnp.asarray(z0)))
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-11)
            assert ours >= -1e-13


def test_positions_count_like_examples_and_half_precision_is_softened_in_single():
    dense = [np.reshape(z, (3, 2, 5)) for z in (NOW, THEN)]
    flat = KL()(outputs=jnp.asarray(NOW), source_outputs=jnp.asarray(THEN))
    assert float(KL()(outputs=dense[0], source_outputs=dense[1])) == pytest.approx(float(flat))
    half = [jnp.asarray(z, jnp.bfloat16) for z in (NOW, THEN)]
    single = [z.astype(jnp.float32) for z in half]
    assert KL()(outputs=half[0], source_outputs=half[1]) == KL()(
        outputs=single[0], source_outputs=single[1]
    )


@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_equal_probabilities_are_at_zero_with_zero_gradient(shift):
    value, slope = jax.value_and_grad(
        lambda z: KL(3.0)(outputs=z, source_outputs=jnp.asarray(NOW))
    )(jnp.asarray(NOW + shift))
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(slope, np.zeros_like(NOW), atol=1e-6)


def test_certain_sources_stay_finite():
    sure = jnp.asarray([[1e4, 0.0, -1e4]])
    value, slope = jax.value_and_grad(lambda z: KL()(outputs=z, source_outputs=sure))(
        jnp.zeros((1, 3))
    )
    assert float(value) == pytest.approx(np.log(3))
    assert np.isfinite(slope).all()


def test_refusals():
    assert asked(KL()) == {"outputs", "source_outputs"}
    with pytest.raises(ConfigError, match="temperature"):
        KL(0.0)
    for now, then, why in (
        (NOW, NOW[:, :4], r"same classes; here they are \(6, 5\) and the source's \(6, 4\)"),
        (NOW, NOW[:1], "same classes"),
        (NOW[:, :1], NOW[:, :1], r"two or more classes; the model's are \(6, 1\)"),
        (NOW, NOW[0], r"two or more classes; the source's are \(5,\)"),
        (NOW, None, "the source's are none"),
        ({"a": NOW}, NOW, "the model's are dict"),
    ):
        with pytest.raises(ConfigError, match=why):
            KL()(outputs=now, source_outputs=then)
