"""Digits and .npz files: what is read, and what is refused."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tlx_data.arrays import Arrays, fingerprint
from tlx_data.digits import Digits
from tlx_data.npz import Npz
from tlx_image.model_images import collate_images

from tlx.data.splits import cut
from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled, Split
from tlx.stream import evaluation


def keras(n=12, **arrays):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.integers(0, 256, (n, 5, 4, 3), np.uint8),
        "y_train": np.arange(n) % 3,
        "x_test": rng.integers(0, 256, (4, 5, 4, 3), np.uint8),
        "y_test": np.arange(4) % 3,
    }
    return {k: v for k, v in {**made, **arrays}.items() if v is not None}


def written(folder, **arrays):
    path = folder / "small.npz"
    np.savez(path, **keras(**arrays))
    return Npz(str(path))


def test_digits_are_those_of_scikit_learn():
    source = Digits()
    bunch = load_digits()
    assert isinstance(source, DataSource)
    assert source.info.splits == {"train": 1797}
    assert source.info.classes == tuple("0123456789")
    assert source.info.fields["image"].shape == (8, 8, 3)
    split = source.split("train")
    np.testing.assert_array_equal(split.labels, bunch.target)
    image = split[123]["image"]
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], np.round(bunch.images[123] * 255 / 16))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    assert Digits() == source


def test_digits_reach_a_batch_as_they_are():
    splits = cut(Digits(), shots=2, seed=0)
    (batch,) = evaluation(splits.train, collate_images((8, 8)), batch_size=20)
    for image, label, number in zip(
        batch.inputs["image"], batch.targets["label"], batch.index, strict=True
    ):
        example = Digits().split("train")[number]
        np.testing.assert_array_equal(image, example["image"])
        assert label == example["label"]


def test_npz_is_read(tmp_path):
    source = written(tmp_path)
    arrays = keras()
    assert isinstance(source, DataSource)
    assert isinstance(source.split("test"), Split)
    assert isinstance(source.split("test"), Labelled)
    assert source.info.splits == {"train": 12, "test": 4}
    assert source.info.classes == ("0", "1", "2")
    assert source.info.fields["image"].shape == (5, 4, 3)
    np.testing.assert_array_equal(source.split("test")[2]["image"], arrays["x_test"][2])
    assert source.split("train")[4]["label"] == 1


@pytest.mark.parametrize("channels", [(), (1,)])
def test_grey_is_repeated(tmp_path, channels):
    x = np.random.default_rng(1).integers(0, 256, (12, 5, 4, *channels), np.uint8)
    image = written(tmp_path, x_train=x).split("train")[3]["image"]
    assert image.shape == (5, 4, 3)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], x[3].reshape(5, 4))


def test_optional_parts(tmp_path):
    x, y = np.zeros((2, 5, 4), np.uint8), np.zeros((2, 1), np.uint8)
    names = np.asarray(["ape", "bee", "cat", "dog"])
    source = written(tmp_path, x_val=x, y_val=y, class_names=names)
    assert source.info.splits == {"train": 12, "val": 2, "test": 4}
    assert source.info.classes == ("ape", "bee", "cat", "dog")
    assert source.split("val").labels.shape == (2,)
    assert written(tmp_path, x_test=None, y_test=None).info.splits == {"train": 12}


def test_numbers_are_brought_to_bytes_or_kept_as_floats(tmp_path):
    x = keras()["x_train"]
    assert written(tmp_path, x_train=x.astype(np.int64)).split("train").images.dtype == np.uint8
    floats = written(tmp_path, x_train=x / 255).split("train")[0]["image"]
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, x[0] / 255, rtol=1e-6)


def test_labels_that_are_no_classes(tmp_path):
    half = {"x_test": None, "y_test": None}
    regression = written(tmp_path, y_train=np.linspace(0, 1, 12)[:, None], **half)
    assert regression.info.classes == ()
    assert regression.split("train").labels.dtype == np.float32
    assert regression.split("train").labels.shape == (12,)
    several = written(tmp_path, y_train=np.eye(4)[np.arange(12) % 4], **half)
    assert several.info.classes == ("0", "1", "2", "3")
    assert several.split("train").labels.shape == (12, 4)


@pytest.mark.parametrize(
    ("kind", "labels", "classes", "shape"),
    [
        ("number", np.arange(12), (), (12,)),
        ("number", np.arange(24).reshape(12, 2), (), (12, 2)),
        ("number", np.eye(3)[np.arange(12) % 3], (), (12, 3)),
        ("class", np.arange(12.0) % 3, ("0", "1", "2"), (12,)),
        ("class", np.eye(3)[np.arange(12) % 3], ("0", "1", "2"), (12,)),
        ("multilabel", np.eye(3)[np.arange(12) % 3], ("0", "1", "2"), (12, 3)),
    ],
)
def test_the_head_says_what_labels_are(tmp_path, kind, labels, classes, shape):
    written(tmp_path, y_train=labels, x_test=None, y_test=None)
    source = Npz(str(tmp_path / "small.npz"), label_kind=kind)
    assert source.info.classes == classes
    found = source.split("train").labels
    assert found.shape == shape
    assert found.dtype == (np.float32 if kind == "number" else np.int32)
    wanted = labels.argmax(1) if found.ndim < labels.ndim else labels
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("class", np.linspace(0, 1, 12), "wanted are class numbers"),
        ("multilabel", np.arange(12), "wanted are 0 or 1 for every class"),
        ("multilabel", np.full((12, 2), 3), "wanted are 0 or 1 for every class"),
        ("number", np.full(12, np.nan), "no finite number at example 0"),
        ("number", 1.7e9 + np.arange(12), "too large against what they differ by"),
    ],
)
def test_labels_that_the_head_cannot_use_are_refused(tmp_path, kind, labels, said):
    written(tmp_path, y_train=labels, x_test=None, y_test=None)
    with pytest.raises(DataError, match=said):
        Npz(str(tmp_path / "small.npz"), label_kind=kind).info  # noqa: B018


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y_train": None, "y_trian": np.zeros(12, int)}, r"no array 'y_train'\. Did you mean"),
        ({"y_test": None}, "no array 'y_test'"),
        ({"y_train": np.zeros(11, int)}, "12 pictures x_train, but 11 labels"),
        ({"x_train": np.zeros((12, 5, 4, 2), np.uint8)}, r"\(12, 5, 4, 2\)"),
        ({"x_train": np.full((12, 5, 4), 300)}, "from 300 to 300"),
        ({"x_train": np.full((12, 5, 4), -0.5)}, "from -0.5"),
        ({"x_train": np.full((12, 5, 4), np.nan)}, "from nan"),
        ({"y_train": np.arange(12) - 1}, "negative label"),
        ({"y_train": np.asarray(["a"] * 12)}, "labels that are wanted are integers"),
        ({"y_train": np.full((12, 2, 1), 3)}, "labels that are wanted are integers"),
        ({"y_train": np.linspace(0, 1, 12)}, "different kinds"),
        ({"class_names": np.asarray(["a", "b"])}, "names 2 classes.*need 3"),
        ({"class_names": np.asarray([["a"], ["b"]], object)}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(tmp_path, arrays, said):
    source = written(tmp_path, **arrays)
    with pytest.raises(DataError, match=said) as caught:
        source.info  # noqa: B018
    assert "small.npz" in str(caught.value)


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Npz(str(tmp_path / "gone.npz")).info  # noqa: B018
    for name, content in (("text.npz", b"text"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            Npz(str(tmp_path / name)).info  # noqa: B018
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        Npz(str(tmp_path / "one.npy")).info  # noqa: B018
    whole = tmp_path / "whole.npz"
    np.savez(whole, **keras())
    (tmp_path / "half.npz").write_bytes(whole.read_bytes()[:900])
    with pytest.raises(DataError, match="cannot be read"):
        Npz(str(tmp_path / "half.npz")).info  # noqa: B018


def test_nothing_is_opened_before_it_is_used():
    assert Npz("nowhere.npz") == Npz("nowhere.npz")
    assert hash(Npz("nowhere.npz")) == hash(Npz("nowhere.npz"))


def test_the_fingerprint_follows_what_is_in_the_data():
    split = Arrays(np.zeros((2, 3, 3, 1), np.uint8), np.asarray([0, 1]))
    base = fingerprint({"train": split}, ("a", "b"))
    assert base == fingerprint({"train": split}, ("a", "b"))
    pixel = split.images.copy()
    pixel[0, 0, 0] = 1
    others = [
        fingerprint({"train": split}, ("b", "a")),
        fingerprint({"test": split}, ("a", "b")),
        fingerprint({"train": Arrays(pixel, split.labels)}, ("a", "b")),
        fingerprint({"train": Arrays(pixel[::-1], split.labels)}, ("a", "b")),
        fingerprint({"train": Arrays(split.images, split.labels[::-1])}, ("a", "b")),
        fingerprint({"train": Arrays(split.images.astype(np.float32), split.labels)}, ("a", "b")),
    ]
    assert len({base, *others}) == 7
