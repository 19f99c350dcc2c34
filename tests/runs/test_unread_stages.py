"""Stages that nobody reads are not run, not counted, not saved, and need no weights."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import WeightsError
from tlx.study import evaluate
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat

HEAD = {"name": "softmax", "feature": "stage1"}
DEEP = """
import jax.numpy as jnp

def deep(*, features):
    return jnp.mean(features["stage2"] ** 2)

def shallow(*, features, source_features):
    return jnp.mean((features["stage1"] - source_features["stage1"]) ** 2)
"""


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """A file of weights that holds nothing of the second stage."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(DEEP)
    whole = ToyBackbone().init(jax.random.key(7), jnp.zeros((1, 8, 8, 3)))
    leaves = {
        path.replace("/", "/backbone/", 1): np.array(leaf)
        for path, leaf in flat(whole).items()
        if "/stage1/" in path
    }
    save_file(leaves, "trunk.safetensors")
    return {"name": "safetensors:trunk.safetensors"}


def stages(table):
    return assemble(parse(table)).model.backbone.stages


def test_the_network_ends_at_the_last_feature_that_is_read(tiny, trunk, capsys, digests, tmp_path):
    l2_sp = {"name": "l2_sp", "weight": 0.1}
    table = tiny(steps=4, head=HEAD, weights=trunk, divergence=[l2_sp])
    result = tlx.run(table, out="r")
    said = capsys.readouterr().out
    assert said.count("left out: nobody reads") == 1
    assert "stage2 left out" in said
    assert result["parameters"] == result["trainable_parameters"] == 9 * 3 * 4 + 3 * 4 + 4 * 3 + 3
    assert set(result["forgetting"]["drift"]) == {"backbone", "stage1"}
    assert set(result["forgetting"]["cka"]) == {"stage1"}
    assert not [path for path in load_file("r/model/model.safetensors") if "stage2" in path]
    assert evaluate("r")["test"]["accuracy"] == result["test"]["accuracy"]
    saved = tlx.load("r")
    assert set(saved.features(np.zeros((8, 8, 3), np.uint8))) == {"stage1"}
    assert len(saved.predict(np.zeros((8, 8, 3), np.uint8))) == 1
    more = tiny(steps=2, head=HEAD, weights={"name": "run:r", "head": "keep"})
    assert tlx.run(more, out="more")["weights"] == "run:r"
    with pytest.raises(WeightsError, match="stage2"):
        assemble(parse(tiny(weights={"name": "run:r"})))


def test_whoever_reads_a_stage_or_names_it_keeps_it(tiny, trunk):
    shallow = {"name": "own.py:shallow", "weight": 0.1}
    assert stages(tiny(head=HEAD, weights=trunk, divergence=[shallow])) == ("stage1",)
    table = tiny(head=HEAD, divergence=[{"name": "own.py:deep", "weight": 0.1}])
    assert stages(table) == ("stage1", "stage2")
    with pytest.raises(WeightsError, match="stage2"):  # which is read, and not in the file
        assemble(parse({**table, "weights": trunk}))
    assert stages(tiny(head=HEAD)) == ("stage1",)
    assert stages(tiny()) == ("stage1", "stage2")
    frozen = {"name": "finetune", "frozen": ["stage1", "stage2"], "norm": "frozen"}
    assert stages(tiny(head=HEAD, strategy=frozen)) == ("stage1", "stage2")
    domain = tiny()["data"]
    assert stages(tiny(
        head=HEAD, domain=domain, divergence=[{"name": "mmd", "weight": 0.1, "feature": "stage2"}]
    )) == ("stage1", "stage2")  # fmt: skip


def test_weights_as_loaded_need_what_the_head_reads(tiny, trunk):
    table = tiny(steps=2, head=HEAD, weights=trunk)
    tlx.run(table, out="r")
    kept = tiny(head=HEAD, weights={"name": "run:r", "head": "keep"}, epochs=0)
    del kept["steps"]
    with open("kept.toml", "w") as file:
        file.write(tlx.config.tomli_w.dumps(kept))
    then = json.loads(Path("r/result.json").read_text())["test"]["accuracy"]
    assert evaluate("kept.toml")["test"]["accuracy"] == then
