"""Preprocessing and classes as timm and transformers write them down."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tlx_image import ImageInput, decode
from tlx_image.pixels import normalize
from tlx_weights import hub_config, timm_config, transformers_config
from tlx_weights.hub_config import WAY_OUT

from tlx.errors import WeightsError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
RESNET = {  # as timm writes it; what says nothing about pictures is there to be passed over
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(IMAGENET["mean"]),
        "std": list(IMAGENET["std"]),
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}
VIT = {
    "do_normalize": True,
    "do_resize": True,
    "do_rescale": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}


def timm(**changed):
    return timm_config.preprocessing(
        {**RESNET, "pretrained_cfg": {**RESNET["pretrained_cfg"], **changed}}, "here"
    )


def processor(**changed):
    return transformers_config.preprocessing({**VIT, **changed}, 3, "here")


def test_timms_fields():
    assert timm_config.is_timm(RESNET)
    found = timm()
    side = 235  # timm resizes to floor(224 / 0.95) pixels
    assert found.input == ImageInput(
        size=(224, 224), crop=224 / side, interpolation="bicubic", **IMAGENET
    )
    assert round(224 / found.input.crop) == side
    assert len(found.notes) == 1
    assert "tested at 288x288 and crop 1.0" in found.notes[0]
    assert timm(test_input_size=None).notes == ()


def test_timms_older_form_and_defaults():
    """Once the fields stood at the top; what is missing has timm's defaults."""
    old = {"architecture": "resnet18", "input_size": [1, 32, 32], "mean": [0.5], "std": [0.25]}
    assert timm_config.is_timm(old)
    assert timm_config.preprocessing(old, "here").input == ImageInput(
        (32, 32), 1, (0.5,), (0.25,), crop=32 / 36, interpolation="bicubic"
    )


@pytest.mark.parametrize("mode", ["squash", "border"])
def test_a_crop_that_is_only_near_is_noted(mode):
    assert f"crop_mode {mode!r}" in timm(crop_mode=mode).notes[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"interpolation": "random"}, "resizes by 'random'"),
        ({"crop_mode": "ten"}, "crops by 'ten'"),
        ({"crop_pct": 0}, r"wrong 'crop_pct'"),
        ({"crop_pct": "much"}, r"wrong 'crop_pct'"),
        ({"input_size": [3, 224]}, r"wrong 'input_size"),
        ({"input_size": [3, 224, 10**9]}, r"wrong 'input_size"),
        ({"mean": [0.5]}, "3 channels and holds 1 means"),
        ({"std": [1.0, 0.0, 1.0]}, r"wrong 'std"),
        ({"std": [1.0, float("nan"), 1.0]}, r"wrong 'std"),
    ],
)
def test_what_timm_says_and_tlx_cannot_do_is_refused(changed, said):
    with pytest.raises(WeightsError, match=said) as caught:
        timm(**changed)
    assert str(caught.value).startswith("here ")
    assert str(caught.value).endswith(WAY_OUT)


def test_steps_that_are_off_or_other():
    """They are followed, though most files have them as they are by default."""
    spec = processor(do_normalize=False).input
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))
    assert processor(do_rescale=False).input.scale == 255
    assert processor(rescale_factor=1 / 127.5).input.scale == pytest.approx(2)
    assert processor(do_flip_channel_order=True).input.order == "bgr"
    assert processor(do_resize=False).input.size is None
    assert processor(image_mean=0.25).input.mean == (0.25, 0.25, 0.25)
    old = {"feature_extractor_type": "ViTFeatureExtractor", "image_processor_type": None}
    assert processor(**old, size=32).input.size == (32, 32)


def test_a_number_as_size_means_what_the_processor_takes_it_for():
    crop = {"do_center_crop": True, "crop_size": 224, "size": 256}
    kept = processor(image_processor_type="BitImageProcessor", **crop)
    changed = processor(image_processor_type="DeiTImageProcessor", **crop)
    assert kept.input == changed.input
    assert kept.input.crop == 0.875
    assert kept.notes == ()
    assert "whatever their proportions" in changed.notes[0]
    large = processor(image_processor_type="ConvNextImageProcessorFast", size=384, crop_pct=1.0)
    assert (large.input.size, large.input.crop, len(large.notes)) == ((384, 384), 1.0, 1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"do_pad": True}, "asks for do_pad"),
        ({"rescale_offset": True}, "asks for rescale_offset"),
        ({"resample": 4}, "filter number 4"),
        ({"resample": None}, "does not say by which `resample`"),
        ({"image_mean": None}, "gives no image_mean"),
        ({"image_mean": [0.5]}, "1 numbers as image_mean for 3 channels"),
        ({"image_std": [0.5, 0.5, 0]}, "not positive"),
        ({"size": {"longest_edge": 224}}, "a size by longest_edge"),
        ({"size": {"shortest_edge": 224}}, "shortest edge and does not crop"),
        ({"size": "large"}, "wrong 'size'"),
        ({"do_center_crop": True}, "gives no crop_size"),
        ({"do_center_crop": True, "crop_size": 300}, "crops more than there is"),
        ({"do_center_crop": True, "do_resize": False}, "without resizing"),
        ({"image_processor_type": "LevitImageProcessor"}, "Levit processor with steps"),
    ],
)
def test_what_transformers_says_and_tlx_cannot_do_is_refused(changed, said):
    with pytest.raises(WeightsError, match=said) as caught:
        processor(**changed)
    assert str(caught.value).endswith(WAY_OUT)


def test_a_processor_without_a_size_is_refused():
    fields = {name: value for name, value in VIT.items() if name != "size"}
    with pytest.raises(WeightsError, match="wrong 'size'"):
        transformers_config.preprocessing(fields, 3, "here")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"label_names": ["ant", "bee"]}, ("ant", "bee")),
        ({"pretrained_cfg": {"label_names": ["ant", "bee"], "num_classes": 2}}, ("ant", "bee")),
        ({"label_names": ["ant", "bee"], "num_classes": 1000}, None),
        ({"id2label": {"1": "bee", "0": "ant"}}, ("ant", "bee")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"id2label": {"0": "ant", "2": "bee"}}, None),
        ({"id2label": {"0": 1}}, None),
        ({"label_names": "ab"}, None),
        ({}, None),
    ],
)
def test_classes(config, found):
    assert hub_config.classes(config) == found


def test_what_the_network_is_called():
    assert hub_config.architecture(RESNET) == "resnet18"
    assert hub_config.architecture({"model_type": "vit"}) == "vit"
    assert hub_config.architecture({"model_type": 3}) == ""
    for name, wanted in (("ResNetForImageClassification", "resnet"), ("ViTModel", "vit")):
        assert hub_config.architecture({"architectures": [name]}) == wanted
    assert hub_config.architecture({"architectures": [3]}) == ""


def some_pictures():
    root = Path(__file__).resolve().parents[3]
    home = Path(os.environ.get("TLX_SHARED_DATA", root.parent / "shared" / "data"))
    if not (file := home / "hymenoptera_256.zip").exists():
        pytest.skip("the data file hymenoptera_256.zip is not here")
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::40]
        return [decode.read(archive.read(name), name) for name in names]


@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("vit", "ViT", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
        ("vit", "ViT", {"do_normalize": False, "do_rescale": False, "resample": 0}),
        ("deit", "DeiT", {}),
        ("convnext", "ConvNext", {"size": 224, "crop_pct": 0.875}),
        ("convnext", "ConvNext", {"size": 64, "crop_pct": 0.95, "resample": 1}),
        ("bit", "Bit", {"size": {"shortest_edge": 256}, "crop_size": 224}),
        ("clip", "CLIP", {"size": 128, "crop_size": 112}),
        ("mobilevit", "MobileViT", {"size": {"shortest_edge": 128}, "crop_size": 112}),
    ],
)
def test_pixels_are_those_of_transformers_own_processors(module, name, options):
    """Greatest difference 2.4e-7 of normalised pixels (1e-6 of the range where they are not
    rescaled). Processors that change proportions are given square pictures."""
    import importlib

    made = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    theirs = getattr(made, f"{name}ImageProcessorPil")(**options)
    found = transformers_config.preprocessing(theirs.to_dict(), 3, "here")
    spec = found.input
    for picture in some_pictures():
        if found.notes:
            side = min(picture.shape[:2])
            picture = picture[:side, :side]
        wanted = theirs(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        fitted = decode.fit(picture, spec.size, spec.crop, spec.interpolation)
        seen = np.asarray(normalize(spec, fitted[None]))[0]
        wanted = np.asarray(wanted).transpose(1, 2, 0)
        np.testing.assert_allclose(seen, wanted, atol=5e-7 * max(1, np.abs(wanted).max()))
