"""Distillation: the gradient of Hinton's paper, and torch's divergence under his temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_divergences.distillation import distillation
from tlx_divergences.kl import KL

from tlx.errors import ConfigError

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 6, 5)) * 3


def test_it_is_kl_at_the_temperature_of_distillation():
    assert distillation() == KL(temperature=4.0)
    with pytest.raises(ConfigError, match="temperature"):
        distillation(0.0)


def test_torchs_divergence_of_softened_probabilities_times_t_squared():
    student, teacher = (torch.tensor(z) / 4 for z in (STUDENT, TEACHER))
    theirs = 16 * torch.nn.functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), reduction="batchmean", log_target=True
    )
    with jax.enable_x64(True):
        ours = distillation()(outputs=jnp.asarray(STUDENT), source_outputs=jnp.asarray(TEACHER))
        assert float(ours) == pytest.approx(theirs.item(), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_is_t_times_the_difference_of_softened_probabilities(temperature):
    """Equation 2 of the paper, times T²."""
    soft = [
        np.exp(z / temperature) / np.exp(z / temperature).sum(-1, keepdims=True)
        for z in (STUDENT, TEACHER)
    ]
    with jax.enable_x64(True):
        teacher = jnp.asarray(TEACHER)
        divergence = distillation(temperature)
        slope = jax.grad(lambda z: divergence(outputs=z, source_outputs=teacher))(
            jnp.asarray(STUDENT)
        )
    np.testing.assert_allclose(slope, temperature * (soft[0] - soft[1]) / 6, rtol=1e-9, atol=1e-12)


def test_a_high_temperature_compares_centred_logits():
    """Equation 4 of the paper: T² KL tends to ½ mean_c (v_c − z_c)² of centred logits."""
    v, z = (x - x.mean(-1, keepdims=True) for x in (TEACHER, STUDENT))
    with jax.enable_x64(True):
        ours = distillation(1e4)(outputs=jnp.asarray(STUDENT), source_outputs=jnp.asarray(TEACHER))
        assert float(ours) == pytest.approx(np.square(v - z).mean(-1).mean() / 2, rel=1e-3)
