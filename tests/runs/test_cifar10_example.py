"""`examples/cifar10.toml` from end to end, on a model and a data set that are made here.

A folder of the hub's layout holds a ResNet-18 of random numbers under timm's names, and TFDS
itself prepares a `cifar10` of a few generated pictures. All else is as in the file, except how
long it runs.
"""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tensorflow_datasets.core import registered

from tlx.cli import main
from tlx.files.manifest import digest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cifar10.toml"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
BUILDER = """
    import io

    import numpy as np
    import tensorflow_datasets as tfds
    from PIL import Image


    class Builder(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=CLASSES),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "test": self._generate_examples(20)}

        def _generate_examples(self, count):
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 64, (32, 32, 3))
                pixels[:, number % 10 * 3 :][:, :3] += 180
                png = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(png, "PNG")
                png.seek(0)
                yield number, {"id": f"{count}_{number}", "image": png, "label": number % 10}
"""


def resnet18() -> dict[str, np.ndarray]:
    """Random numbers under the names that timm and torchvision share."""
    rng = np.random.default_rng(0)
    state: dict[str, np.ndarray] = {}

    def conv(name: str, *shape: int) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{name}.weight"] = (scale * rng.standard_normal(shape)).astype(np.float32)

    def norm(name: str, width: int) -> None:
        for part in ("weight", "running_var"):
            state[f"{name}.{part}"] = np.ones(width, np.float32)
        for part in ("bias", "running_mean"):
            state[f"{name}.{part}"] = np.zeros(width, np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 64, 3, 7, 7)
    norm("bn1", 64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            conv(f"{at}.conv1", width, before, 3, 3)
            norm(f"{at}.bn1", width)
            conv(f"{at}.conv2", width, width, 3, 3)
            norm(f"{at}.bn2", width)
            if before != width:
                conv(f"{at}.downsample.0", width, before, 1, 1)
                norm(f"{at}.downsample.1", width)
            before = width
    state["fc.weight"] = rng.standard_normal((1000, 512)).astype(np.float32) / 30
    state["fc.bias"] = np.zeros(1000, np.float32)
    return state


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder as `timm/resnet18.a1_in1k` has it, for smaller pictures."""
    folder = tmp_path / "resnet18.a1_in1k"
    folder.mkdir()
    save_file(resnet18(), folder / "model.safetensors", metadata={"format": "pt"})
    about = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 40, 40],
            "crop_pct": 0.95,
            "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    (folder / "config.json").write_text(json.dumps(about))
    return folder


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which TFDS prepared its `cifar10`; a builder has to live in a package."""
    package = tmp_path / "tlx_test_pictures"
    (package / "cifar10").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "cifar10" / "__init__.py").touch()
    code = f"CLASSES = {list(CLASSES)}\n{textwrap.dedent(BUILDER)}"
    (package / "cifar10" / "cifar10_dataset_builder.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    # What reads it is TFDS' own `cifar10`, which another test may have registered already.
    with registered.skip_registration():
        module = importlib.import_module("tlx_test_pictures.cifar10.cifar10_dataset_builder")
    folder = tmp_path / "tfds"
    module.Builder(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def test_the_example_runs_from_hub_weights_to_a_report(
    tmp_path: Path, hub: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both phases run, and every leaf of the backbone comes from timm's file; at the first step
    of the second phase it is still where the file has it, then it moves."""
    out = tmp_path / "run"
    settings = [f"weights=hf:{hub}", f"data.data_dir={prepared}", "data.val=10"]
    small = ["steps=4", "batch_size=4", "eval_every=4", "strategy.probe=0.5", "log_every=1"]
    code = main(["run", str(EXAMPLE), "--out", str(out), "--set", *settings, *small])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    assert "100 leaves" in said.out
    assert "timm" in said.out
    assert "head/* (2 leaves) new" in said.out
    assert "skipped" not in said.out, "a head of other classes goes without saying"
    assert "tensorflow" not in sys.modules

    result = json.loads((out / "result.json").read_text())
    assert result["examples"] == {"train": 30, "val": 10, "test": 20}
    assert result["weights_sha256"] == digest(hub / "model.safetensors")
    assert np.isfinite(result["test"]["loss"])
    lines = (out / "metrics.jsonl").read_text().splitlines()
    steps = [event for event in map(json.loads, lines) if event["kind"] == "train"]
    moved = [event["divergence/l2_sp"] for event in steps]
    assert moved[:3] == [0, 0, 0]
    assert moved[3] > 0

    about = json.loads((out / "model" / "model.json").read_text())
    assert about["inputs"]["image"]["options"]["size"] == [40, 40]
    assert about["inputs"]["image"]["options"]["interpolation"] == "bicubic"
    assert about["classes"] == list(CLASSES)
