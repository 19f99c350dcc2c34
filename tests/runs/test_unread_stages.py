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
    assert tlx.run(more, out="more")["weights"].endswith("r")
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


def test_a_file_of_the_whole_network_is_another_start(tiny, trunk):
    whole = ToyBackbone().init(jax.random.key(7), jnp.zeros((1, 8, 8, 3)))
    leaves = {p.replace("/", "/backbone/", 1): np.array(leaf) for p, leaf in flat(whole).items()}
    save_file({**leaves, "params/head/other": np.ones(3, np.float32)}, "whole.safetensors")
    found = assemble(parse(tiny(head=HEAD, weights={"name": "safetensors:whole.safetensors"})))
    assert found.model.backbone.stages == ("stage1",)
    part = assemble(parse(tiny(head=HEAD, weights=trunk)))
    ours, theirs = flat(found.variables), flat(part.variables)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(leaf, theirs[path]) for path, leaf in ours.items())


def test_a_source_may_end_early_too(tiny, trunk):
    """Whether it is the network of the run, or another one that is compared by a feature."""
    shallow = {"name": "own.py:shallow", "weight": 0.1, "source": "teacher"}
    backbone = tiny()["backbone"]
    same = {"backbone": backbone, "weights": trunk}
    found = assemble(parse(tiny(head=HEAD, divergence=[shallow], sources={"teacher": same})))
    assert found.model.backbone == dict(found.source_models)["teacher"].backbone
    assert found.model.backbone.stages == ("stage1",)
    assert stages(tiny(head="softmax", divergence=[shallow], sources={"teacher": same})) == (
        "stage1",
        "stage2",
    )
    other = {"backbone": {"name": backbone, "dropout": 0.2}, "weights": trunk}
    found = assemble(parse(tiny(head="softmax", divergence=[shallow], sources={"teacher": other})))
    assert found.model.backbone.stages == ("stage1", "stage2")
    assert dict(found.source_models)["teacher"].backbone.stages == ("stage1",)
    deep = {"name": "feature_l2", "features": ["stage2"], "weight": 0.1, "source": "teacher"}
    with pytest.raises(WeightsError, match="stage2"):
        assemble(parse(tiny(head="softmax", divergence=[deep], sources={"teacher": other})))


BEFOREHAND = """
import jax
import jax.numpy as jnp
from pathlib import Path

class Prepared:
    def prepare(self, *, model, variables, source, batches, rng):
        with open("calls", "a") as calls:
            calls.write("x")
        features, _ = model.features(variables, next(iter(batches)), rng=rng, mode="eval")
        return features[self.feature].mean()

    def __call__(self, *, prepared, params):
        return prepared * sum(jnp.square(x).sum() for x in jax.tree.leaves(params))

class Silent(Prepared):
    feature = "stage2"

class Shallow(Prepared):
    feature = "stage1"
    reads = ("stage1",)

class Recorded:
    def record(self, *, features):
        return {"seen": features["stage2"].mean((1, 2, 3))}

    def __call__(self, *, recorded, features):
        return jnp.mean(recorded["seen"]) * jnp.mean(features["stage1"])
"""


@pytest.mark.parametrize(
    ("name", "left", "calls"), [("Silent", 2, "x"), ("Shallow", 1, "x"), ("Recorded", 2, "")]
)
def test_what_is_read_beforehand_is_declared_or_all(tiny, trunk, tmp_path, name, left, calls):
    (tmp_path / "before.py").write_text(BEFOREHAND)
    table = tiny(head=HEAD, divergence=[{"name": f"before.py:{name}", "weight": 0.1}])
    assert len(stages(table)) == left
    assert not calls or Path("calls").read_text() == calls  # once
    if left == 2:
        with pytest.raises(WeightsError, match="stage2"):
            assemble(parse({**table, "weights": trunk}))


def test_the_packaged_ones_declare_it(tiny, trunk):
    source = {"weights": trunk, "head": HEAD}
    fitnets = {"name": "fitnets", "features": ["stage1"], "weight": 0.1}
    assert stages(tiny(**source, divergence=[fitnets])) == ("stage1",)
    delta = {"name": "delta", "features": ["stage1"], "attention": False, "weight": 0.1}
    assert stages(tiny(**source, divergence=[delta])) == ("stage1",)
    domain = tiny()["data"]
    dann = {"name": "dann", "feature": "stage2", "weight": 0.1}
    assert len(stages(tiny(head=HEAD, domain=domain, divergence=[dann]))) == 2
