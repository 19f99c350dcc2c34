"""Which pictures are the same, held against what was done to real ones."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from tlx_image.image_hash import fingerprint as print_of
from tlx_image.image_hash import nearly_same

FLOWER, CHINA = (load_sample_image(f"{name}.jpg") for name in ("flower", "china"))


def compressed(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(picture, width):
    image = Image.fromarray(picture)
    return np.asarray(image.resize((width, width * picture.shape[0] // picture.shape[1])))


def pairs(first, second):
    """As `tlx data check` finds them."""
    known = {one.digest: place for place, one in enumerate(first)}
    same = [(known[one.digest], place) for place, one in enumerate(second) if one.digest in known]
    rest = [place for place, one in enumerate(second) if one.digest not in known]
    near = nearly_same(first, [second[place] for place in rest])
    return same, [(one, rest[other]) for one, other in near]


@pytest.mark.parametrize("picture", [FLOWER, CHINA], ids=["flower", "china"])
@pytest.mark.parametrize(
    "changed",
    [
        lambda p: compressed(p, 60),
        lambda p: resized(p, 300),
        lambda p: np.clip(p.astype(int) + 3, 0, 255).astype(np.uint8),
        lambda p: p.astype(np.float32) / 255,
    ],
    ids=["compressed", "resized", "brighter", "floats"],
)
def test_nearly_the_same(picture, changed):
    same, near = pairs([print_of(FLOWER), print_of(CHINA)], [print_of(changed(picture))])
    assert (same, near) == ([], [(0 if picture is FLOWER else 1, 0)])


@pytest.mark.parametrize(
    "changed",
    [lambda p: p[:, ::-1], lambda p: p[:300, :300], lambda p: 255 - p, lambda p: p[..., ::-1]],
    ids=["mirrored", "cut out", "negative", "other channels"],
)
def test_another_picture(changed):
    assert pairs([print_of(FLOWER)], [print_of(changed(FLOWER))]) == ([], [])


def test_the_same_pixels_whatever_the_file():
    again = np.asarray(Image.fromarray(CHINA).convert("RGBA").convert("RGB"))
    assert pairs([print_of(FLOWER), print_of(CHINA)], [print_of(again)]) == ([(1, 0)], [])
    assert pairs([], [print_of(again)]) == pairs([print_of(again)], []) == ([], [])


def test_digits_are_not_taken_for_each_other():
    """Handwritten digits are as alike as pictures of classes get."""
    from sklearn.datasets import load_digits

    digits = np.repeat((load_digits().images * 15.9375).astype(np.uint8)[..., None], 3, -1)
    prints = [print_of(picture) for picture in digits]
    same, near = pairs(prints[:900], prints[900:])
    assert same == []
    assert len(near) < 0.01 * 897
