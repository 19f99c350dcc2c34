"""The README's example runs as it stands there: a file of one's own, named by a run file."""

import re
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp

from tlx import registry
from tlx.protocols import Backbone, Staged

README = Path(__file__).parents[1] / "README.md"


def test_a_network_of_your_own(tmp_path, monkeypatch):
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    (code,) = [body for kind, body in blocks if kind == "python"]
    tables = [tomllib.loads(body)["backbone"] for kind, body in blocks if kind == "toml"]
    (tmp_path / "my_net.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert [table["name"] for table in tables] == ["resnet20", "my_net.py:net"]
    for table in tables:
        options = {key: value for key, value in table.items() if key != "name"}
        backbone = registry.build("backbones", table["name"], options)
        assert isinstance(backbone, Backbone)
        assert isinstance(backbone, Staged)
        assert backbone == registry.build("backbones", table["name"], options)
        assert backbone.modes >= {"train", "tune", "eval"}
    assert backbone.features[0].channels == table["width"] == 32
    x = jnp.ones((2, 32, 32, 3))
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), x)
    features, _ = jax.eval_shape(
        lambda v, x: backbone.apply(v.params, v.state, x, rng=jax.random.key(1), mode="train"),
        shapes,
        x,
    )
    assert features["pooled"].shape == (2, 32)
