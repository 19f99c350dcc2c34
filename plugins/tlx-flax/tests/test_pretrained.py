"""The source model that ships: it loads whole, and is as good as its result file says."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import registry
from tlx.model import Model
from tlx.types import unlabelled
from tlx.weights import saved
from tlx.weights.matching import match

ROOT = Path(__file__).resolve().parents[3]
RESULT = ROOT / "benchmarks" / "results" / "resnet20_cifar10.json"
SHIPPED = ROOT / "plugins/tlx-flax/tlx_flax/pretrained/resnet20-cifar10"


def test_every_leaf_is_loaded():
    weights = registry.build("weights", "resnet20-cifar10")
    backbone = registry.build("backbones", "resnet20")
    model = Model(backbone, registry.build("heads", "softmax", {"classes": 10}), weights.input)
    batch = unlabelled({"image": jnp.zeros((1, 32, 32, 3), jnp.uint8)})
    fresh = jax.jit(model.init)(jax.random.key(0), batch)
    _, report = match(weights.tensors(), fresh)
    assert len(report.loaded) == len(jax.tree.leaves(fresh))
    assert (report.initialised, report.skipped) == ((), ())
    assert weights.classes[:3] == ("airplane", "automobile", "bird")
    assert len(report.sha256) == 64


def test_the_accuracy_beside_it_is_that_of_its_result():
    shipped, measured = (json.loads(f.read_text()) for f in (SHIPPED / "result.json", RESULT))
    assert shipped["test"]["accuracy"] == measured["test"]["accuracy"]
    assert shipped["examples"]["test"] == measured["examples"]["test"]


def share_right(images, labels):
    model = saved.load(SHIPPED)
    names = [model.classes[label] for label in labels]
    rows = model.predict(images)
    return np.mean([row["class"] == name for row, name in zip(rows, names, strict=True)])


def test_it_is_as_good_as_its_result_says(cifar10_test):
    expected = json.loads(RESULT.read_text())["test"]["accuracy"]
    assert expected >= 0.89
    deviation = (expected * (1 - expected) / 1000) ** 0.5
    assert abs(share_right(*cifar10_test(1000)) - expected) < 3 * deviation


@pytest.mark.slow
def test_all_of_the_test_split_to_the_picture(cifar10_test):
    expected = json.loads(RESULT.read_text())["test"]["accuracy"]
    assert share_right(*cifar10_test(10_000)) == pytest.approx(expected, abs=2e-4)
