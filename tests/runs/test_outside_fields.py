"""A kind of data of an outside author, clouds of points, in one distribution: a field, an input, a
network and a data set, installed beside tlx, whose core knows nothing of them."""

import os
import subprocess
import sys

import pytest

PROJECT = """
[build-system]
requires = ["flit_core>=3.12,<4"]
build-backend = "flit_core.buildapi"

[project]
name = "tlx-points"
version = "1.0"
description = "Clouds of points"
dependencies = ["tlx-jax"]

[project.entry-points."tlx.fields"]
points = "tlx_points:Points"
[project.entry-points."tlx.inputs"]
points = "tlx_points:PointsInput"
[project.entry-points."tlx.backbones"]
deep_sets = "tlx_points:deep_sets"
[project.entry-points."tlx.datasets"]
rings = "tlx_points:Rings"
"""
CODE = '''
"""Clouds of points (N,2): is it a ring or a blob?"""
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from tlx.backbones.functions import wrap_functions
from tlx.data.fields import ClassLabel
from tlx.errors import DataError
from tlx.types import DataInfo


@dataclass(frozen=True)
class Points:
    kind: ClassVar[str] = "points"

    def read(self, raw, name):
        value = np.asarray(raw, np.float32)
        if value.ndim != 2 or value.shape[1] != 2:
            raise DataError(f"{name} has the shape {value.shape}; points are (N,2).")
        return value

    def encode(self, value, name):
        return value

    def show(self, value):
        return f"{len(value)} points"


@dataclass(frozen=True)
class PointsInput:
    """Padded to as many points as the largest training example has, and scaled."""

    most: int | None = None
    scale: float = 1.0
    kind: ClassVar[str] = "points"

    def encode(self, *values, name):
        points = values[0][: self.most]
        padded = np.zeros((self.most, 2), np.float32)
        padded[: len(points)] = points
        return {"points": padded, "there": np.arange(self.most) < len(points)}

    def prepare(self, arrays):
        return {**arrays, "points": arrays["points"] / self.scale}

    def example(self):
        most = self.most or 4
        return {
            "points": jax.ShapeDtypeStruct((1, most, 2), np.float32),
            "there": jax.ShapeDtypeStruct((1, most), np.bool_),
        }

    def fitted(self, fields, values):
        every = [cloud for cloud, in values()]
        scale = float(np.concatenate(every).std())
        return replace(self, most=max(map(len, every)), scale=scale)


def _init(rng, x, width):
    return {"kernel": jax.random.normal(rng, (2, width)), "bias": jnp.zeros(width)}


def _apply(params, x):
    each = jax.nn.relu(x["points"] @ params["kernel"] + params["bias"])
    each = each * x["there"][..., None]
    mean = each.sum(1) / x["there"].sum(1, keepdims=True)
    return {"points": each, "pooled": jnp.concatenate([mean, each.max(1)], -1)}


def deep_sets(width: int = 16):
    options = {"width": width}
    return wrap_functions(_init, _apply, ("points", "pooled"), PointsInput(), options=options)


@dataclass(frozen=True)
class Rings:
    @property
    def info(self):
        fields = {"cloud": Points(), "label": ClassLabel(("blob", "ring"))}
        return DataInfo("rings", fields, {"train": 120, "test": 40}, "rings")

    def split(self, name):
        rng, found = np.random.default_rng(len(name)), []
        for number in range(self.info.splits[name]):
            angle = rng.uniform(0, 2 * np.pi, rng.integers(8, 20))
            radius = 3 + 0.1 * rng.normal(size=len(angle)) if number % 2 else rng.normal(
                0, 2, len(angle))
            cloud = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
            found.append({"cloud": cloud, "label": number % 2})
        return found
'''
RUN = """
name = "rings"
steps = 200
batch_size = 30
eval_every = 200
backbone = "deep_sets"
strategy = "finetune"
data = { name = "rings", val = 20 }
optimizer = { name = "adam", learning_rate = 0.03 }
sink = []
"""
ASKED = """
import json
import tlx
from tlx_points import Rings

model, test = tlx.load("runs/rings"), Rings().split("test")
said = [one["class"] for one in model.predict([one["cloud"] for one in test])]
right = [("blob", "ring")[one["label"]] for one in test]
accuracy = sum(a == b for a, b in zip(said, right)) / len(test)
assert accuracy == json.load(open("runs/rings/result.json"))["test"]["accuracy"] > 0.9, accuracy
about = json.load(open("runs/rings/model/model.json"))
assert about["inputs"]["points"]["options"]["most"] == 19, about["inputs"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder to work in, and a command in it that sees the distribution."""
    root, site = tmp_path_factory.mktemp("points"), tmp_path_factory.mktemp("site")
    (root / "tlx_points").mkdir()
    (root / "tlx_points/__init__.py").write_text(CODE)
    (root / "pyproject.toml").write_text(PROJECT)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(site), str(root)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (site / "run.toml").write_text(RUN)

    def command(*words):
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, *words],
            cwd=site,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_its_runs_train_test_save_and_predict(installed):
    ran = installed("-m", "tlx", "run", "run.toml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    asked = installed("-W", "error", "-c", ASKED)
    assert asked.returncode == 0, asked.stderr
