"""Views: the key decides, and two of a picture differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies.simclr import simclr
from tlx_strategies.views import LARGE, SMALL, pipeline

from tlx.errors import ConfigError, PluginError

RNG = np.random.default_rng(0)
VIEWS = simclr().views
BATCH = {
    "image": jnp.asarray(RNG.random((3, 16, 16, 3)), jnp.float32),
    "index": jnp.asarray([7, 8, 9]),
    "weight": jnp.ones(3),
}


def test_the_same_key_draws_the_same_views_and_another_others():
    one, again = (VIEWS.draw(BATCH, jax.random.key(1), "train") for _ in range(2))
    np.testing.assert_array_equal(one, again)
    other = VIEWS.draw(BATCH, jax.random.key(2), "train")
    assert np.abs(np.asarray(one - other)).max() > 0.1
    assert np.abs(np.asarray(one[0] - one[1])).max() > 0.1
    assert one.shape == (2, 3, 16, 16, 3)


def test_in_evaluation_the_example_decides():
    first = VIEWS.draw(BATCH, jax.random.key(1), "eval")
    turned = {name: leaf[::-1] for name, leaf in BATCH.items()}
    other = VIEWS.draw(turned, jax.random.key(2), "eval")
    np.testing.assert_allclose(first, other[:, ::-1], atol=1e-6)


def test_steps_are_names_or_tables():
    for steps in (*SMALL, *LARGE):
        assert len(pipeline(steps, "strategy.views")) >= 4
    with pytest.raises(PluginError, match="flip"):
        pipeline(["flop"], "strategy.views")
    with pytest.raises(ConfigError, match="an augmentation is its name or a table"):
        pipeline([{"probability": 1.0}], "strategy.views")
