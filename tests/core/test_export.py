"""The way back out: a state dict that PyTorch loads, with the preprocessing beside it."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch
from tlx_image import ImageInput
from tlx_image.image_input import crop_pct
from tlx_image.model_images import saved_images

from tlx import cli
from tlx.config import WeightsConfig
from tlx.contracts.input import ports_of
from tlx.errors import ConfigError, WeightsError
from tlx.model import Model
from tlx.registry import build
from tlx.run_file.run_config import Part
from tlx.run_file.weight_reference import reference
from tlx.run_folder.model_folder import save_model
from tlx.testing import toys
from tlx.trees import flat
from tlx.types import Tensors, unlabelled
from tlx.weights import export, saved, sources
from tlx.weights.matching import match

CLASSES = tuple("abcdefghij")
INPUTS = ImageInput(size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop=0.875)


@pytest.fixture(scope="module")
def run(tmp_path_factory, torch_resnet20):
    """The folder of a run whose model has the numbers of a network in PyTorch."""
    folder = tmp_path_factory.mktemp("run")
    keep(folder, "resnet20", {k: v.numpy() for k, v in torch_resnet20().state_dict().items()})
    return folder


def keep(folder, name, tensors, inputs=INPUTS):
    backbone = build("backbones", name)
    model = Model(backbone, build("heads", "softmax", given={"classes": 10}), inputs)
    size = inputs.size or (32, 32)
    picture = unlabelled({"image": np.zeros((1, *size, 3), np.uint8)})
    like = jax.eval_shape(model.init, jax.random.key(0), picture)
    variables, report = match(Tensors(tensors, "PyTorch"), like, backbone.dialects)
    assert not report.initialised
    save_model(
        folder / "model", backbone=Part(name), head=Part("softmax"), **saved_images(inputs, size),
        classes=CLASSES, variables=variables,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("to", "read"),
    [
        ("torch", lambda file: torch.load(file, weights_only=True)),
        ("safetensors", lambda file: __import__("safetensors.torch").torch.load_file(file)),
    ],
)
def test_torch_to_tlx_to_torch_is_equal_to_the_bit(run, tmp_path, torch_resnet20, to, read):
    found = export.export(run, to, out=tmp_path / "hub")
    tensors = read(found["file"])
    wanted = torch_resnet20().state_dict()
    assert set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor), name
    assert found["tensors"] == len(wanted)


def test_pytorch_loads_it_strictly_and_computes_the_same(run, tmp_path, torch_resnet20):
    found = export.export(run, "torch", out=tmp_path / "net.pth")
    network = torch_resnet20()
    for parameter in network.parameters():
        parameter.data.zero_()
    network.load_state_dict(torch.load(found["file"], weights_only=True), strict=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    config = json.loads((tmp_path / "net.json").read_text())["pretrained_cfg"]
    x = (images / 255 - config["mean"]) / config["std"]
    with torch.no_grad():
        logits = network(torch.tensor(np.moveaxis(x, -1, 1), dtype=torch.float32))
    told = saved.load(run).predict(images)
    np.testing.assert_allclose(
        [row["probabilities"] for row in told], logits.softmax(-1).numpy(), atol=1e-5
    )


def test_a_folder_in_the_layout_of_the_hub(run, tmp_path):
    found = export.export(run, "safetensors", out=tmp_path / "hub")
    assert sorted(p.name for p in (tmp_path / "hub").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["architecture"] == "resnet20"
    assert config["num_classes"] == 10
    assert config["label_names"] == list(CLASSES)
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert found["about"] == str(tmp_path / "hub" / "config.json")
    source = sources.open_weights(WeightsConfig(name=reference(str(tmp_path / "hub"))))
    assert source.classes == CLASSES
    assert round(32 / source.input.crop) == round(32 / INPUTS.crop)
    assert replace(source.input, crop=INPUTS.crop) == INPUTS
    like = jax.tree.map(lambda leaf: leaf, saved.load(run).variables)
    back, report = match(source.tensors(), like, build("backbones", "resnet20").dialects)
    assert not report.initialised
    assert not report.skipped
    for path, leaf in flat(like).items():
        np.testing.assert_array_equal(flat(back)[path], leaf)


def test_the_names_are_chosen(run, tmp_path, torch_resnet20):
    export.export(run, "torch", dialect="akamaster", out=tmp_path / "net.pth")
    torch_resnet20("linear").load_state_dict(torch.load(tmp_path / "net.pth"), strict=True)
    with pytest.raises(WeightsError, match=r"no dialect 'akamastr'. Did you mean 'akamaster'"):
        export.export(run, "torch", dialect="akamastr")


def test_nothing_is_overwritten_unasked(run, tmp_path):
    export.export(run, "torch", out=tmp_path / "net.pth")
    before = (tmp_path / "net.pth").stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"exists already. Use --overwrite"):
        export.export(run, "torch", out=tmp_path / "net.pth")
    assert (tmp_path / "net.pth").stat().st_mtime_ns == before
    export.export(run, "torch", out=tmp_path / "net.pth", overwrite=True)


def test_on_the_command_line(run, tmp_path, capsys):
    out = str(tmp_path / "hub")
    assert cli.main(["export", str(run), "--to", "safetensors", "--out", out]) == 0
    size = (tmp_path / "hub" / "model.safetensors").stat().st_size
    assert capsys.readouterr().out.splitlines() == [
        f"{out}/model.safetensors: 116 tensors, {size:,} bytes, under the names of timm",
        f"{out}/config.json: preprocessing and classes",
    ]
    assert cli.main(["export", str(run), "--to", "safetensors", "--out", out]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_backbone_without_names_elsewhere_is_refused(tmp_path):
    name = f"{toys.__file__}:ToyBackbone"
    backbone = build("backbones", name)
    model = Model(backbone, None, backbone.inputs)
    picture = unlabelled({"image": np.zeros((1, 8, 8, 3), np.uint8)})
    like = jax.eval_shape(model.init, jax.random.key(0), picture)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), like)
    save_model(
        tmp_path, backbone=Part(name), head=None, **saved_images(backbone.inputs, (8, 8)),
        classes=(), variables=variables,
    )  # fmt: skip
    with pytest.raises(WeightsError, match="knows no names of other libraries"):
        export.export(tmp_path, "torch")


@pytest.mark.parametrize("side", [32, 96, 160, 224, 288, 384, 448])
@pytest.mark.parametrize("share", [0.875, 0.95, 1.0, 224 / 235])
def test_the_crop_means_as_many_pixels_there_as_here(side, share):
    pct = crop_pct(side, ImageInput(crop=share))
    assert int(side / pct) == round(side / share)
    assert pct == pytest.approx(share, abs=0.5 / side)


def test_what_timm_has_no_word_for(run):
    from tlx.run_folder.model_folder import describe

    inputs = ImageInput(
        size=(32, 32), mean=(104.0, 117.0, 123.0), scale=255.0, order="bgr", interpolation="bicubic"
    )
    about = export.config(describe(run)._replace(ports=ports_of(inputs), head=None))
    assert about["num_classes"] == 0
    assert "label_names" not in about
    assert about["channel_order"] == "bgr"
    picture = 0.25
    cfg = about["pretrained_cfg"]
    normalised = [(picture - m) / s for m, s in zip(cfg["mean"], cfg["std"], strict=True)]
    np.testing.assert_allclose(normalised, [picture * 255 - m for m in inputs.mean], rtol=1e-6)


@pytest.mark.slow
def test_transformers_loads_it_key_for_key(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    shape = dict(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic",
        embedding_size=64, num_labels=10,
    )  # fmt: skip
    network = ResNetForImageClassification(ResNetConfig(**shape)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    wanted = network.state_dict()
    inputs = ImageInput(size=(64, 64), mean=INPUTS.mean, std=INPUTS.std)
    keep(tmp_path / "run", "resnet18", {k: v.numpy() for k, v in wanted.items()}, inputs)
    out = tmp_path / "hub"
    export.export(tmp_path / "run", "safetensors", dialect="transformers", out=out)
    (out / "config.json").write_text(json.dumps({"model_type": "resnet", **shape}))
    loaded, info = ResNetForImageClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, tensor in wanted.items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
