"""Mutates pictures in every format that is read: a program, see `tlx.testing.fuzzing`."""

import io

import numpy as np
from PIL import Image
from tlx_image.decode import fit, read

from tlx.testing.fuzzing import Input, changed_bytes, main

FORMATS = {
    "PNG": "RGB RGBA L LA P 1 I;16", "JPEG": "RGB L CMYK", "GIF": "L P", "WEBP": "RGB RGBA",
    "BMP": "RGB L P 1", "TIFF": "RGB RGBA L CMYK I;16", "PPM": "RGB L 1 I;16",
}  # fmt: skip


def encoded(kind, mode):
    noise = np.random.default_rng(0).integers(0, 256, (18, 20, 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    if kind == "JPEG":
        exif = Image.Exif()
        exif[274] = 6
        extra = {"exif": exif, "progressive": mode == "L"}
    elif kind == "GIF":
        extra = {"save_all": True, "append_images": [image.rotate(90)], "transparency": 3}
    elif kind == "TIFF":
        extra = {"compression": "tiff_lzw" if mode == "RGB" else "raw"}
    else:
        extra = {}
    file = io.BytesIO()
    image.save(file, kind, **extra)
    return file.getvalue()


def pixels(path):
    """From a file, or from bytes, as shards have them."""
    whole = path.read_bytes()
    image = read(whole) if len(whole) % 2 else read(path)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    if image.size:
        fit(image[:64, :64], (8, 8))


def inputs(folder):
    for kind, modes in FORMATS.items():
        for mode in modes.split():
            name = f"good-{kind}-{mode.replace(';', '')}.{kind.lower()}"
            yield Input(folder / name, encoded(kind, mode), changed_bytes, pixels)


if __name__ == "__main__":
    main(inputs)
