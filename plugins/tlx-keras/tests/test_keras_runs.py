"""A Keras network in real runs on digits: the strategies are the same ones, unchanged."""

import hashlib
from contextlib import contextmanager

import numpy as np
import pytest
from safetensors.numpy import load_file
from tlx_image import ImageInput
from tlx_keras.keras_backbone import wrap_keras
from tlx_keras.on_jax import keras

import tlx
from tlx import loop
from tlx.errors import Interrupted

layers = keras.layers


def model(width):
    """Two stages, with batch norm and dropout. Statistics follow quickly: runs are short."""
    return keras.Sequential(
        [
            layers.Conv2D(width, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(momentum=0.9, name="norm1"),
            layers.ReLU(name="low"),
            layers.Conv2D(2 * width, 3, strides=2, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(momentum=0.9, name="norm2"),
            layers.ReLU(name="high"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.1, name="pooled"),
        ]
    )


def net(width: int = 16):
    """The backbone that the runs name."""
    inputs = ImageInput(size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
    names = ("low", "high", "pooled")
    return wrap_keras(model, names, inputs, options={"width": width}, stages=("low", "high"))


def table(**changes):
    return {
        "name": "keras-digits",
        "steps": 12,
        "batch_size": 50,
        "eval_every": 4.0,
        "log_every": 4,
        "checkpoint_seconds": 60.0,
        "data": {"name": "digits", "test": 500, "val": 100},
        "backbone": f"{__file__}:net",
        "strategy": "finetune",
        "optimizer": {"name": "adam", "learning_rate": 0.02, "schedule": "cosine"},
        "sink": [],
        **changes,
    }


def weights(out):
    return load_file(out / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A network trained on all digits for a hundred steps."""
    out = tmp_path_factory.mktemp("keras") / "source"
    result = tlx.run(table(steps=100), out=out)
    assert result["test"]["accuracy"] > 0.85
    return out


def test_feature_transfer_moves_the_head_alone(source, tmp_path):
    few = {"name": "digits", "test": 500, "val": 100, "shots": 10}
    result = tlx.run(
        table(weights=f"run:{source}", strategy="feature_transfer", steps=60, data=few),
        out=tmp_path / "probe",
    )
    assert result["test"]["accuracy"] > 0.8
    before, after = weights(source), weights(tmp_path / "probe")
    body = [name for name in before if "/backbone/" in name]
    assert {"params/backbone/conv1/kernel", "state/backbone/norm1/moving_mean"} <= set(body)
    assert not [name for name in before if "seed" in name]
    assert all(before[name].tobytes() == after[name].tobytes() for name in body)


def test_a_frozen_stage_stays_and_the_rest_moves(source, tmp_path):
    partly = {"name": "finetune", "frozen": ["low"]}
    tlx.run(table(weights=f"run:{source}", strategy=partly), out=tmp_path / "part")
    before, after = weights(source), weights(tmp_path / "part")
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert {name.rsplit("/", 2)[-2] for name in same} == {"conv1", "norm1"}
    assert {name.rsplit("/", 2)[-2] for name in set(before) - same} == {"conv2", "norm2", "head"}


def test_l2_sp_holds_the_network_near_its_source(source, tmp_path):
    before = weights(source)

    def distance(weight):
        divergence = [{"name": "l2_sp", "weight": weight}]
        out = tmp_path / f"{weight}"
        result = tlx.run(table(weights=f"run:{source}", divergence=divergence), out=out)
        assert result["test"]["accuracy"] > 0.85
        after = weights(out)
        inside = [name for name in after if name.startswith("params/backbone")]
        return sum(float(np.sum((after[name] - before[name]) ** 2)) for name in inside)

    assert distance(0.0) > 2 * distance(10.0)


def test_a_run_that_was_resumed_ends_bit_identical(tmp_path, monkeypatch):
    whole = tlx.run(table(), out=tmp_path / "whole")
    count = iter(range(100))

    @contextmanager
    def interruptible():
        yield lambda: next(count) >= 2

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "interruptible", interruptible)
        with pytest.raises(Interrupted):
            tlx.run(table(), out=out)
    resumed = tlx.run(table(), out=out, resume=True)
    assert resumed["test"] == whole["test"]

    def digest(folder):
        content = (folder / "model" / "model.safetensors").read_bytes()
        return hashlib.sha256(content).hexdigest()

    assert digest(out) == digest(tmp_path / "whole")


def test_the_saved_run_predicts_as_it_was_tested(source):
    from sklearn.datasets import load_digits

    ink, target = load_digits(return_X_y=True)
    images = np.round(ink * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)[:300]
    images = images.repeat(3, -1)
    loaded = tlx.load(source)
    right = [row["class"] == str(t) for row, t in zip(loaded.predict(images), target, strict=False)]
    assert np.mean(right) > 0.8
    assert loaded.features(images[:3])["high"].shape == (3, 4, 4, 32)
