"""Preprocessing: the weights' own, as far as the backbone can take it."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import Image, ImageInput
from tlx_image.image_input import with_channels
from tlx_image.pixels import normalize

from tlx.errors import ConfigError, ContractError

TRAINED = ImageInput(
    size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3), crop=0.9, interpolation="bicubic"
)


def test_weights_bring_their_preprocessing():
    assert TRAINED.merged(ImageInput(size=(4, 4)), {}) == TRAINED
    assert TRAINED.merged(TRAINED, {}) == TRAINED


def test_a_backbone_of_fixed_size_keeps_it():
    fixed = ImageInput(size=(6, 6), fixed=True)
    assert TRAINED.merged(fixed, {}) == replace(TRAINED, size=(6, 6), fixed=True)


def test_a_backbone_for_grey_pictures_gets_average_numbers():
    grey = TRAINED.merged(ImageInput(channels=1, mean=(0.0,), std=(1.0,)), {})
    assert (grey.channels, grey.size) == (1, (8, 8))
    assert grey.mean == pytest.approx((0.5,))
    assert grey.std == pytest.approx((0.2,))
    image = jnp.full((1, 8, 8, 3), 0.7)
    np.testing.assert_allclose(normalize(grey, image), np.full((1, 8, 8, 1), 1.0), atol=1e-5)
    with pytest.raises(ConfigError, match="at least one channel"):
        with_channels(TRAINED, 0)


def test_a_run_file_says_what_the_file_does_not():
    stated = dict(mean=(0.1, 0.2, 0.3), size=16, crop=1.0)
    found = TRAINED.merged(TRAINED, stated)
    assert found == replace(TRAINED, mean=(0.1, 0.2, 0.3), size=(16, 16), crop=1.0)
    assert TRAINED.merged(ImageInput(), dict(size=(4, 6))).size == (4, 6)
    with pytest.raises(ConfigError, match=r"weights\.input\.mean: 2 numbers for pictures of 3"):
        (own := TRAINED).merged(own, dict(mean=(0.1, 0.2)))
    with pytest.raises(ConfigError, match=r"takes pictures of \(8, 8\) alone, not of \(16, 16\)"):
        (own := replace(TRAINED, fixed=True)).merged(own, dict(size=16))


def test_pictures_of_many_shapes_take_the_size_of_the_network():
    assert TRAINED.fitted([Image()], list).canvas == (8, 8)
    assert TRAINED.fitted([Image((5, 6, 3))], list).canvas == (5, 6)
    with pytest.raises(ConfigError, match="differ in shape"):
        ImageInput().fitted([Image()], list)


def test_a_network_reads_what_another_one_is_given():
    """The host's part is the other's, the device's its own."""
    own = replace(TRAINED, canvas=(9, 9), crop=0.5)
    theirs = ImageInput(size=(4, 4), mean=(0.1, 0.1, 0.1))
    shared = theirs.reading(own)
    assert (shared.canvas, shared.crop) == ((9, 9), 0.5)
    assert (shared.size, shared.mean, shared.interpolation) == ((4, 4), (0.1,) * 3, "bilinear")
    assert theirs.reading(object()) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": (None, 8)}, r"size is \(None, 8\)"),
        ({"size": 32}, "size is 32"),
        ({"std": (0.2, None, 0.2)}, "std is .* a tuple of numbers"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"crop": 0.0}, "crop is 0.0"),
        ({"order": "grb"}, "'grb'"),
        ({"channels": 0}, "channels are 0"),
        ({"canvas": (2**20, 2**20)}, "no size of an image"),
    ],
)
def test_a_slip_is_in_words(options, said):
    with pytest.raises(ContractError, match=said):
        ImageInput(**options)


def test_what_a_run_file_says_wrongly_is_a_sentence():
    with pytest.raises(ConfigError, match=r"input\.means: unknown key\. Did you mean .mean."):
        TRAINED.merged(TRAINED, {"means": 3})
    with pytest.raises(ConfigError, match=r"weights\.input\.mean"):
        TRAINED.merged(TRAINED, {"mean": "grey"})
    with pytest.raises(ConfigError, match=r"input: its std is \(\)"):
        TRAINED.merged(TRAINED, {"std": []})
