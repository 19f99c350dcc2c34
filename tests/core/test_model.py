"""What a model does to pictures on the device is what Pillow would have done."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tlx_image import ImageInput
from tlx_image.pixels import normalize


@pytest.mark.parametrize("way", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("size", [(6, 5), (20, 30)])
def test_the_device_resizes_as_pillow_does(way, size):
    image = np.random.default_rng(0).random((12, 10), np.float32)
    wanted = Image.fromarray(image).resize(size[::-1], Image.Resampling[way.upper()])
    spec = ImageInput(size=size, interpolation=way)
    found = normalize(spec, jnp.asarray(np.repeat(image[None, ..., None], 3, -1)))
    np.testing.assert_allclose(found[0, ..., 0], np.asarray(wanted), atol=2e-4)
