"""A data set that TFDS itself prepares here, read without TensorFlow."""

import importlib
import json
import shutil
import sys
import textwrap

import numpy as np
import pytest
from tlx_data.tfds import Tfds
from tlx_image.model_images import collate_images

from tlx.data.splits import cut
from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled
from tlx.stream import evaluation, training

BUILDER = """
    import io

    import numpy as np
    import tensorflow_datasets as tfds
    from PIL import Image


    class Builder(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(6, 4, 1)),
                "label": tfds.features.ClassLabel(names=["dark", "bright"]),
                "mean": tfds.features.Scalar(dtype=np.float32),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(20), "validation": self._generate_examples(6)}

        def _generate_examples(self, count):
            for number in range(count):
                shade = (number % 2) * 200 + number
                png = io.BytesIO()
                Image.fromarray(np.full((6, 4), shade, np.uint8)).save(png, "PNG")
                png.seek(0)
                yield number, {"image": png, "label": number % 2, "mean": float(shade)}
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data set that TFDS itself prepared here; its builder has to live in a package."""
    root = tmp_path_factory.mktemp("tfds")
    package = root / "tlx_test_shades"
    (package / "shades").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "shades/__init__.py").touch()
    (package / "shades/shades_dataset_builder.py").write_text(textwrap.dedent(BUILDER))
    sys.path.insert(0, str(root))
    try:
        module = importlib.import_module("tlx_test_shades.shades.shades_dataset_builder")
        builder = module.Builder(data_dir=str(root / "data"), file_format="array_record")
        builder.download_and_prepare()
    finally:
        sys.path.remove(str(root))
    return str(root / "data")


def test_a_prepared_set_is_read_without_tensorflow(prepared):
    source = Tfds("shades", data_dir=prepared)
    assert isinstance(source, DataSource)
    assert source.info.name == "shades"
    assert source.info.fields["image"].shape == (6, 4, 3)
    assert source.info.classes == ("dark", "bright")
    assert source.info.splits == {"train": 20, "val": 6}
    split = source.split("train")
    assert isinstance(split, Labelled)
    for number in range(20):
        example = split[number]
        assert example["image"].shape == (6, 4, 3)
        assert (example["image"][0, 0, 0] >= 200) == (example["label"] == 1)
        assert example["label"] == split.labels[number]
    assert "tensorflow" not in sys.modules


def test_it_goes_through_cut_and_stream(prepared):
    splits = cut(Tfds("shades", data_dir=prepared), shots=3, seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 6, 6)
    stream = training(splits.train, collate_images((6, 4)), batch_size=4, seed=0, threads=4)
    for _, batch in zip(range(6), stream, strict=False):
        np.testing.assert_array_equal(
            batch.inputs["image"][:, 0, 0, 0] >= 200, batch.targets["label"] == 1
        )
    stream.close()
    (batch,) = evaluation(splits.test, collate_images((8, 8)), batch_size=6)
    assert batch.inputs["image"].shape == (6, 8, 8, 3)


def test_another_feature_is_the_label(prepared):
    source = Tfds("shades", data_dir=prepared, label="mean")
    assert source.info.classes == ()
    train = source.split("train")
    assert np.issubdtype(train.labels.dtype, np.floating)
    assert train[5]["label"] == train[5]["image"][0, 0, 0]
    assert source.info.fingerprint != Tfds("shades", data_dir=prepared).info.fingerprint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "cifar10"}, r"Run: tfds build cifar10 --file_format=array_record --data_dir="),
        ({"dataset": "cifr10"}, "knows no data set 'cifr10'.*Did you mean 'cifar10'"),
        ({"dataset": "mnist/nope"}, "cannot open the data set 'mnist/nope'.*nope not found"),
        ({"dataset": "shades", "label": "lable"}, r"'lable'\. Its features are image \(Image\)"),
        ({"dataset": "shades", "image": "label"}, "no Image feature 'label'"),
    ],
)
def test_what_is_not_there_is_said(prepared, options, said):
    source = Tfds(**options, data_dir=prepared)
    with pytest.raises(DataError, match=said) as caught:
        source.info  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
def test_code_that_came_with_the_data_is_not_run(prepared, tmp_path, monkeypatch, key):
    """TFDS imports the module of a feature's class, whoever wrote it."""
    (tmp_path / "stranger.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    where = tmp_path / "data"
    shutil.copytree(f"{prepared}/shades", where / "strange")  # no builder of that name is known
    (path,) = where.rglob("features.json")
    about = json.loads(path.read_text())
    inner = about["featuresDict"]["features"]["mean"]
    inner[key] = "stranger.Feature"
    if key == "python_class_name":
        del inner["pythonClassName"]
    path.write_text(json.dumps(about | ({"content": {}} if key == "type" else {})))
    version = path.parent
    version.rename(tmp_path / "elsewhere")  # TFDS follows links, and so must who looks before it
    version.symlink_to(tmp_path / "elsewhere")
    (version / "round").symlink_to(version)
    for name in ("strange", "Strange", "strange:1.0.0"):
        with pytest.raises(DataError, match=r"names 'stranger\.Feature' for a feature"):
            Tfds(name, data_dir=str(where)).info  # noqa: B018
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    "damage", ['{"featuresDict": {"features": {"image": {"no": 1}}}}', "[", ""]
)
@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_a_damaged_description_is_a_sentence(prepared, tmp_path, name, damage):
    shutil.copytree(f"{prepared}/shades", tmp_path / "strange")
    (path,) = tmp_path.rglob(name)
    path.write_text(damage)
    with pytest.raises(DataError):
        Tfds("strange", data_dir=str(tmp_path)).info  # noqa: B018


def test_a_damaged_record_is_an_error(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    (file,) = (tmp_path / "data").rglob("*train*array_record*")
    damaged = bytearray(file.read_bytes())
    for place in range(0, len(damaged) - 4096, 997):
        damaged[place] ^= 255
    damaged[80:120] = bytes(40)
    file.write_bytes(bytes(damaged))
    with pytest.raises(DataError):
        _ = Tfds("shades", data_dir=str(tmp_path / "data")).split("train").labels
