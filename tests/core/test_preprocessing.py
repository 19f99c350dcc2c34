"""Preprocessing: the weights' own, as far as the backbone can take it."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.data.preprocessing import as_trained, canvas, with_channels
from tlx.errors import ConfigError
from tlx.model import pictures
from tlx.run_file.run_config import InputConfig
from tlx.types import DataInfo, InputSpec

TRAINED = InputSpec(
    size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), crop=0.9, interpolation="bicubic"
)


def test_weights_bring_their_preprocessing():
    assert as_trained(TRAINED, InputSpec(size=(4, 4))) == TRAINED
    assert as_trained(None, TRAINED) == TRAINED


def test_a_backbone_of_fixed_size_keeps_it():
    fixed = InputSpec(size=(6, 6), fixed=True)
    assert as_trained(TRAINED, fixed) == replace(TRAINED, size=(6, 6), fixed=True)


def test_a_backbone_for_grey_pictures_gets_average_numbers():
    grey = as_trained(TRAINED, InputSpec(channels=1, mean=(0.0,), std=(1.0,)))
    assert (grey.channels, grey.size) == (1, (8, 8))
    assert grey.mean == pytest.approx((0.5,))
    assert grey.std == pytest.approx((0.2,))
    image = jnp.full((1, 8, 8, 3), 0.7)
    np.testing.assert_allclose(pictures(grey, image), np.full((1, 8, 8, 1), 1.0), atol=1e-5)
    with pytest.raises(ConfigError, match="at least one channel"):
        with_channels(TRAINED, 0)


def test_a_run_file_says_what_the_file_does_not():
    stated = InputConfig(mean=(0.1, 0.2, 0.3), size=16, crop=1.0)
    found = as_trained(None, TRAINED, stated)
    assert found == replace(TRAINED, mean=(0.1, 0.2, 0.3), size=(16, 16), crop=1.0)
    assert as_trained(TRAINED, InputSpec(), InputConfig(size=(4, 6))).size == (4, 6)
    with pytest.raises(ConfigError, match=r"weights\.input\.mean: 2 numbers for pictures of 3"):
        as_trained(None, TRAINED, InputConfig(mean=(0.1, 0.2)))
    with pytest.raises(ConfigError, match=r"takes pictures of \(8, 8\) alone, not of \(16, 16\)"):
        as_trained(None, replace(TRAINED, fixed=True), InputConfig(size=16))


def test_pictures_of_many_shapes_take_the_size_of_the_network():
    mixed = DataInfo("mixed", None, (), {}, "")
    assert canvas(mixed, TRAINED) == (8, 8)
    assert canvas(replace(mixed, shape=(5, 6, 3)), TRAINED) == (5, 6)
    with pytest.raises(ConfigError, match="'mixed' differ in shape"):
        canvas(mixed, InputSpec())
