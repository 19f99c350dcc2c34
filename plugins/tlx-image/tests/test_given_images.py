"""Pictures in any form, and arrays whose numbers cannot be meant as a picture's."""

import io

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from PIL import Image
from tlx_image.given_images import each_picture, read_pixels

from tlx.errors import DataError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
BYTES[0, 0, 0] = 0


def encoded():
    buffer = io.BytesIO()
    Image.fromarray(BYTES).save(buffer, "PNG")
    return buffer.getvalue()


def read_all(pictures):
    return [read_pixels(picture, name) for name, picture in each_picture(pictures)]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    return tmp_path / "a.png"


def test_every_form_of_a_picture_is_read_alike(file):
    with file.open("rb") as opened:
        forms = [
            file, str(file), encoded(), bytearray(encoded()), memoryview(encoded()), opened,
            io.BytesIO(encoded()), Image.fromarray(BYTES), BYTES, jnp.asarray(BYTES),
        ]  # fmt: skip
        for form in forms:
            ((name, one),) = each_picture(form)
            np.testing.assert_array_equal(read_pixels(one, name), BYTES)
    for number, (_, picture) in enumerate(each_picture(np.stack([BYTES, BYTES[::-1]]))):
        np.testing.assert_array_equal(read_pixels(picture), BYTES[:: 1 - 2 * number])
    for several in ([file, BYTES], (file, BYTES), iter([file, BYTES]), np.array([str(file)] * 2)):
        assert len(list(each_picture(several))) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_float_is_from_0_to_1_and_nothing_else(dtype):
    share = (BYTES / 255).astype(dtype)
    found = read_pixels(share)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, share.astype(np.float32))
    with pytest.raises(DataError, match=r"floats from 0 to 2\d\d.* If 255 is white, divide it"):
        read_pixels(BYTES.astype(dtype))


def test_what_arithmetic_adds_to_a_float_is_clipped():
    found = read_pixels(np.array([[[-1e-6, 0.5, 1 + 1e-6]]]))
    np.testing.assert_array_equal(found, np.float32([[[0, 0.5, 1]]]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (BYTES / 127.5 - 1, "before it was normalised"),
        (BYTES.astype(float) * 257, "the number that is white, such as 65535"),
        (np.full((2, 2, 3), np.nan), "not finite"),
        (np.full((2, 2, 3), np.inf), "not finite"),
        (BYTES.astype(np.uint16), r"array of uint16.*image / 65535 is a float"),
        (BYTES.astype(np.int64), r"array of int64.*image\.astype\(np\.uint8\)"),
        (BYTES > 100, r"mask; image\.astype\(np\.uint8\) \* 255"),
        (BYTES.astype(complex), "array of complex128"),
        (BYTES.transpose(2, 0, 1), r"\(3, 6, 5\) uint8.*channels come first: np\.moveaxis"),
        (BYTES[..., 0], r"A grey one is np\.repeat"),
        (BYTES[..., :1], r"A grey one is np\.repeat"),
        (np.concatenate([BYTES, BYTES[..., :1]], -1), r"image\[\.\.\., :3\] leaves it out"),
        (BYTES[:0], r"\(0, 5, 3\), in which there is no pixel"),
        (np.array(3.0), r"an array \(\) float64"),
        (np.array({"a": 1}, object), "Give pictures of several sizes as a list"),
    ],
)
def test_an_array_that_is_no_picture_says_what_to_do(image, words):
    with pytest.raises(DataError, match=words):
        read_all(image)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (None, "^None is no picture. A picture is the name of a file"),
        (3, "^Something of type int is no picture"),
        ({"image": BYTES}, "^Something of type dict is no picture"),
        ([BYTES, None], r"^The picture \[1\] is None, and no picture"),
        (BYTES.tolist(), r"^The picture \[0\] is something of type list inside of a list"),
        ([BYTES[None]], "Inside of a list each array is one picture"),
        (np.zeros((2, 3, 6, 5), np.uint8), "channels come first"),
        (b"", "is empty"),
        (io.BytesIO(), r"nothing left to read.*seek\(0\)"),
        (io.StringIO("x"), "open as text; open it with mode 'rb'"),
        (io.BytesIO(encoded()[:60]), "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_says_what_is_one(pictures, words):
    with pytest.raises(DataError, match=words):
        read_all(pictures)


def test_files_that_are_none_are_named(file):
    with pytest.raises(DataError, match="is a folder, and no picture"):
        read_pixels(file.parent)
    file.write_bytes(encoded()[:60])
    opened = file.open("rb")
    with opened, pytest.raises(DataError, match=r"^The picture '.*a\.png' cannot be read"):
        read_pixels(opened)
    with pytest.raises(DataError, match="an open file that cannot be read"):
        read_pixels(opened)
    with pytest.raises(DataError, match="cannot be read as a picture"):
        read_pixels(Image.open(io.BytesIO(encoded()[:-30])))
