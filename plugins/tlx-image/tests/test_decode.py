"""From stored pictures to pixels, beside Pillow and PyTorch."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tlx_image.decode import fit, read

from tlx.errors import DataError


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "pil"])
def test_rgb_is_read_as_it_is(pixels, kind, tmp_path):
    data = encoded(Image.fromarray(pixels))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    given = {"path": path, "str": str(path), "bytes": data, "pil": Image.fromarray(pixels)}[kind]
    seen = read(given)
    assert seen.dtype == np.uint8
    np.testing.assert_array_equal(seen, pixels)


# What each EXIF orientation means (EXIF 2.3, tag 274), written with numpy.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_rotation_is_applied(pixels, orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    seen = read(encoded(Image.fromarray(pixels), exif=exif.tobytes()))
    np.testing.assert_array_equal(seen, upright(pixels))


def test_transparency_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 51, 255)
    seen = read(encoded(Image.fromarray(rgba)))
    np.testing.assert_array_equal(seen[0], [[255] * 3, [204] * 3, [0] * 3])


def test_a_transparent_palette_colour_is_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    seen = read(encoded(palette, transparency=0))
    np.testing.assert_array_equal(seen[0], [[255, 255, 255], [40, 50, 60]])


def test_transparent_bytes_of_a_palette_do_not_warn():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    seen = read(encoded(palette, transparency=bytes([255, 0])))
    np.testing.assert_array_equal(seen[0], [[10, 20, 30], [255, 255, 255]])


def test_sixteen_bits_are_scaled_and_not_clipped():
    grey = np.asarray([[0, 128, 257, 32768, 65535]], np.uint16)
    seen = read(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(seen[..., 0], np.round(grey / 257).astype(np.uint8))
    assert seen.shape == (1, 5, 3)


def test_grey_and_one_bit_are_repeated():
    grey = np.asarray([[0, 100, 255]], np.uint8)
    np.testing.assert_array_equal(read(encoded(Image.fromarray(grey))), np.stack([grey] * 3, -1))
    black_white = read(encoded(Image.fromarray(grey > 50)))
    np.testing.assert_array_equal(black_white[0, :, 0], [0, 255, 255])


def test_cmyk_becomes_rgb():
    seen = read(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert (abs(seen[4, 4].astype(int) - [255, 0, 0]) < 12).all()


def test_floats_without_a_range_are_refused():
    with pytest.raises(DataError, match="floats"):
        read(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cut_off_file_is_named(tmp_path, kind):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"half\.img"):
        read(path)


def test_what_is_no_picture_is_named(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.jpg"):
        read(path)
    with pytest.raises(DataError, match=r"gone\.jpg' does not exist"):
        read(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="Example 3 cannot"):
        read(b"", name="Example 3")


@pytest.mark.parametrize("side", [10_000, 16_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, side):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(DataError, match=r"bomb\.png"):
        read(path)


def test_a_bomb_is_refused_where_warnings_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="too large"):
        read(encoded(Image.new("RGB", (4, 4))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_no_more_pixels_than_the_bytes_can_hold(kind, mode):
    """A black picture is as small as one can be, and is read; of no more than its beginning no
    pixel is."""
    extra = {"JPEG": {"progressive": True, "quality": 1}, "TIFF": {"compression": "tiff_lzw"}}
    extra = {} if (kind, mode) == ("TIFF", "1") else extra.get(kind, {})
    whole = encoded(Image.new(mode, (3000, 2000)), kind, **extra)
    image = read(whole)
    assert image.shape == (2000, 3000, 3)
    assert image[::500].max() < 3
    if kind == "TIFF":
        return
    with pytest.raises(DataError, match=r"3000x2000 pixels, which its \d+ bytes cannot hold"):
        read(whole[: 900 if kind in ("GIF", "JPEG") else 480])


def test_fit_leaves_the_right_size_alone(pixels):
    assert fit(pixels, (7, 5), 0.5) is pixels


def test_fit_resizes_the_short_side_and_keeps_the_centre(pixels):
    wide = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    small = np.asarray(Image.fromarray(wide).resize((20, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fit(wide, (12, 12)), small[:, 4:16])
    np.testing.assert_array_equal(fit(wide, (9, 9), 0.75), small[1:10, 5:14])


@pytest.mark.parametrize("size", [(12, 12), (9, 31), (224, 160)])
@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_fit_always_fills_the_canvas(size, crop):
    for shape in ((30, 50, 3), (50, 30, 3), (1, 1, 3), (8, 8, 3), (101, 99, 3)):
        flat = np.full(shape, 77, np.uint8)
        seen = fit(flat, size, crop)
        assert seen.shape == (*size, 3)
        assert (seen == 77).all()


def test_fit_of_floats_agrees_with_bytes():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    floats = fit(image.astype(np.float32) / 255, (12, 12))
    assert floats.dtype == np.float32
    assert abs(floats * 255 - fit(image, (12, 12))).max() < 1


def test_fit_agrees_with_torch():
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    with torch.no_grad():
        resized = torch.nn.functional.interpolate(
            torch.tensor(image.transpose(2, 0, 1)[None].astype(np.float32)),
            size=(16, 24),
            mode="bilinear",
            antialias=True,
        )
    expected = resized[0].numpy().transpose(1, 2, 0)[:, 4:20]
    assert abs(fit(image, (16, 16)) - expected).max() <= 1.0


def test_fit_of_other_channel_counts():
    grey = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    expected = fit(np.repeat(grey, 3, 2), (16, 16))[..., :1]
    assert abs(fit(grey, (16, 16)).astype(int) - expected).max() <= 1
