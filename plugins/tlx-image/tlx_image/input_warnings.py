"""Whether pictures look like those that a network was trained on.

A network fed with pictures of another range, normalisation or size still gives numbers, only
worse ones, and nothing fails. A few raw pictures show most of these mistakes before a run starts;
what is found is a sentence for its first lines, never a refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tlx_image.image_input import ImageInput


SIGMAS = 3.0
"""How many of the network's standard deviations its mean may be away."""
FLAT = 0.1
"""The share of the network's standard deviation below which pictures are flat."""
BLOWN_UP = 4.0
"""How many times a picture may be enlarged."""
SMALL, SHRUNK = 64, 4.0
"""On a canvas no larger, in pixels, how many times a picture may be made smaller: a network of 224
pixels sees most of what a photograph shows, one of 32 does not."""


def find_shrunk(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[str, ...]:
    """Of the warnings what is so with random weights, too: pictures that are shrunk to little."""
    sentence = _shrunk(pictures, size) if pictures else ""
    return (sentence,) if sentence else ()


def find_warnings(
    pictures: Sequence[np.ndarray], canvas: tuple[int, int], inputs: ImageInput
) -> tuple[str, ...]:
    """Sentences about what does not look as `inputs` wants it, of a few pictures (H,W,C), uint8 or
    float 0..1 RGB; `canvas` (H,W) is the size that they get."""
    if not pictures:
        return ()
    wide = range_of(pictures)
    size = inputs.size or canvas
    others = (_channels(pictures, inputs), _enlarged(pictures, size), _shrunk(pictures, size))
    # Numbers of a wrong range say nothing about mean and deviation.
    found = [wide, *others] if wide else [*others, _statistics(pictures, inputs)]
    return tuple(sentence for sentence in found if sentence)


def range_of(pictures: Sequence[np.ndarray]) -> str:
    """What is wrong with the range of the values, else an empty string."""
    low = min(float(picture.min()) for picture in pictures)
    high = max(float(picture.max()) for picture in pictures)
    floats = any(np.issubdtype(picture.dtype, np.floating) for picture in pictures)
    if not np.isfinite([low, high]).all():
        return "The pictures hold numbers that are not finite."
    if floats and (low < -1e-3 or high > 1 + 1e-3):
        why = "normalised already" if low < 0 else "0 to 255 as floats"
        return (
            f"The pictures hold floats from {low:.3g} to {high:.3g} instead of 0 to 1; they may "
            f"be {why}. The network normalises them itself, so give raw pictures."
        )
    if floats and 0 < high <= 1 / 255 + 1e-6:
        return f"The pictures are floats up to {high:.2g}; they may have been divided twice by 255."
    if not floats and high == 1:
        return (
            "The pictures are whole numbers of no more than 1 out of 255, which is almost black; "
            "they may be pictures from 0 to 1 that lost their fractions."
        )
    return ""


def _channels(pictures: Sequence[np.ndarray], inputs: ImageInput) -> str:
    grey = all(picture.shape[-1] == 1 or _is_grey(picture) for picture in pictures)
    if grey and inputs.channels == 3:
        return "The pictures are grey; the network wants colour and sees grey in all channels."
    if not grey and inputs.channels == 1:
        return "The pictures are in colour; the network wants one channel and sees their mean."
    return ""


def _is_grey(picture: np.ndarray) -> bool:
    return all((picture[..., :1] == picture[..., n : n + 1]).all() for n in range(1, 3))


def _shrunk(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> str:
    """Pictures of which a small network sees a few pixels."""
    factors = [min(p.shape[0] / size[0], p.shape[1] / size[1]) for p in pictures]
    factor, (tall, wide) = _middle(factors, pictures)
    if max(size) > SMALL or factor < SHRUNK:
        return ""
    return (
        f"The pictures are large ({tall} x {wide}, say) and are shrunk {factor:.0f} times to "
        f"{size[0]} x {size[1]}, where most of what they show is lost. A network sees more of them "
        f"that is given them larger, as weights for photographs want them (224 pixels with "
        f"`--backbone resnet18 --weights hf:timm/resnet18.a1_in1k`, and of its own size with any "
        f"other one of `tlx plugins` and a file or a hub); it takes more time."
    )


def _middle(
    factors: Sequence[float], pictures: Sequence[np.ndarray]
) -> tuple[float, tuple[int, ...]]:
    """The median of what is said of each picture, and the (H,W) of the one it is said of."""
    middle = int(np.argsort(factors)[len(factors) // 2])
    return factors[middle], pictures[middle].shape[:2]


def _enlarged(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> str:
    """Pictures so small that the network mostly sees interpolation."""
    factors = [min(size[0] / p.shape[0], size[1] / p.shape[1]) for p in pictures]
    factor, (tall, wide) = _middle(factors, pictures)
    if factor <= BLOWN_UP:
        return ""
    return (
        f"The pictures are small ({tall} x {wide}, say) and are enlarged {factor:.1f} "
        f"times to {size[0]} x {size[1]}, as the weights want them; weights for small pictures "
        f"may serve better."
    )


def _statistics(pictures: Sequence[np.ndarray], inputs: ImageInput) -> str:
    """Mean and deviation against the network's, where its own say something about pictures."""
    std = np.asarray(inputs.std, np.float64) / inputs.scale
    mean = np.asarray(inputs.mean, np.float64) / inputs.scale
    if (np.asarray(inputs.std) == 1).all():  # Caffe's networks divide by nothing
        return ""
    parts = [_unit(picture, len(mean)) for picture in pictures]
    pixels = np.concatenate(parts)
    if inputs.order == "bgr":
        pixels = pixels[:, ::-1]
    away = float(np.abs((pixels.mean(0) - mean) / std).max())
    spread = float((pixels.std(0) / std).max())
    if away <= SIGMAS and spread >= FLAT:
        return ""
    seen = f"mean {pixels.mean():.3g}, standard deviation {pixels.std():.2g}"
    wanted = f"mean {mean.mean():.3g}, {std.mean():.2g}"
    what = "almost of one colour" if spread < FLAT else f"{away:.1f} standard deviations away"
    return (
        f"The pictures ({seen} in 0 to 1) are {what} by what the weights were trained on "
        f"({wanted}); look whether they are read as they should be."
    )


def _unit(picture: np.ndarray, channels: int) -> np.ndarray:
    """Some of its pixels (N, channels) in 0..1."""
    scale = 255 if picture.dtype == np.uint8 else 1
    pixels = picture.reshape(-1, picture.shape[-1])
    pixels = pixels[:: max(1, len(pixels) // 4096)] / scale
    if pixels.shape[1] == channels:
        return pixels
    return np.broadcast_to(pixels.mean(1, keepdims=True), (len(pixels), channels))
