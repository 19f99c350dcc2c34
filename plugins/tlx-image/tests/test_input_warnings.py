"""Pictures that do not look like those that the weights were trained on."""

import numpy as np
import pytest
from tlx_image import ImageInput
from tlx_image.input_warnings import find_warnings as found_in

from tlx.contracts.input import ports_of
from tlx.data import inputs
from tlx.data.splits import Subset

IMAGENET = ImageInput(size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = ImageInput(size=(32, 32), mean=(104.0, 117.0, 123.0), scale=255.0, order="bgr")
GREY = ImageInput(size=(32, 32), channels=1, mean=(0.45,), std=(0.23,))


def photos(count=4, size=32, seed=0):
    """Pictures with the mean and deviation of photos."""
    noise = np.random.default_rng(seed).normal((0.485, 0.456, 0.406), 0.2, (count, size, size, 3))
    return list((noise.clip(0, 1) * 255).astype(np.uint8))


def unit(pictures):
    return [picture.astype(np.float32) / 255 for picture in pictures]


def said(pictures, spec=IMAGENET, canvas=(32, 32)):
    return " ".join(found_in(pictures, canvas, spec))


@pytest.mark.parametrize("inputs", [IMAGENET, CAFFE, ImageInput()])
def test_photos_look_like_photos(inputs):
    assert said(photos(), inputs) == ""
    assert said(unit(photos()), inputs) == ""


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        ([(p - 0.45) / 0.225 for p in unit(photos())], "normalised already"),
        ([p.astype(np.float32) for p in photos()], "0 to 255 as floats"),
        ([p / 255 for p in unit(photos())], "divided twice"),
        ([(p > 0.5).astype(np.uint8) for p in unit(photos())], "no more than 1 out of 255"),
        ([p * np.float32("nan") for p in unit(photos())], "not finite"),
    ],
)
def test_values_of_another_range(pictures, words):
    (sentence,) = found_in(pictures, (32, 32), IMAGENET)
    assert words in sentence


def test_grey_pictures_for_a_network_of_colour_and_the_other_way_round():
    grey = [np.repeat(p[..., :1], 3, -1) for p in photos()]
    assert "are grey" in said(grey)
    assert "are grey" in said([p[..., :1] for p in photos()])
    assert said(grey, GREY) == ""
    assert "in colour" in said(photos(), GREY)


def test_pictures_that_are_blown_up():
    assert said(photos(size=8)) == ""
    sentence = said(photos(size=28), IMAGENET, (28, 28))
    assert sentence == ""
    large = ImageInput(size=(224, 224), mean=IMAGENET.mean, std=IMAGENET.std)
    assert "28 x 28" in said(photos(size=28), large)
    assert "enlarged 8.0 times to 224 x 224" in said(photos(size=28), large)


def test_photographs_that_are_shrunk_to_a_small_network():
    large = [np.zeros((90, 120, 3), np.uint8) + p.mean((0, 1)).astype(np.uint8) for p in photos()]
    large = [p + np.uint8(40) * (np.arange(120) % 2 == 0)[None, :, None] for p in large]
    assert "shrunk" not in said(large)  # 2.8 times
    sentence = said([p.repeat(10, 0).repeat(10, 1) for p in large])
    assert "large (900 x 1200, say) and are shrunk 28 times to 32 x 32" in sentence
    assert "--weights hf:" in sentence
    # It holds of the network that it names, too: what shrinks pictures is the size, not the name.
    assert "that is given them larger" in sentence
    assert "224 pixels with `--backbone resnet18" in sentence
    larger = ImageInput(size=(224, 224), mean=IMAGENET.mean, std=IMAGENET.std)
    assert "shrunk" not in said([p.repeat(20, 0).repeat(20, 1) for p in large], larger)
    whole = [p.repeat(10, 0).repeat(10, 1) for p in large]
    assert "shrunk" in said(whole, ImageInput(), (32, 32))
    assert "shrunk" not in said(whole, ImageInput(), (900, 1200))  # as they are


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_pictures_of_one_colour(shade):
    flat = [np.full((32, 32, 3), shade, np.uint8) for _ in range(4)]
    assert "almost of one colour" in said(flat)


def test_a_mean_far_away():
    narrow = ImageInput(size=(32, 32), mean=(0.1,) * 3, std=(0.05,) * 3)
    assert "standard deviations away" in said(photos(), narrow)


def test_the_mean_is_compared_in_the_order_of_the_network():
    inputs = ImageInput(size=(32, 32), mean=(0.9, 0.5, 0.1), std=(0.1,) * 3, order="bgr")
    rgb = np.random.default_rng(0).normal((0.1, 0.5, 0.9), 0.05, (4, 32, 32, 3)).clip(0, 1)
    assert said(list(rgb), inputs) == ""


def test_a_few_pictures_of_a_split_are_looked_at():
    asked = []

    class Split:
        def __len__(self):
            return 1000

        def __getitem__(self, index):
            asked.append(index)
            return {"image": np.zeros((32, 32, 3), np.uint8), "label": 0}

    part = Subset(Split(), np.arange(1000))
    assert inputs.find_warnings(ports_of(IMAGENET), part, pretrained=True)
    assert len(asked) == 16
    assert max(asked) == 999
