"""Source models that are not the run's own start, and heads over other classes."""

import json

import numpy as np
import pytest

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ConfigError


def trained(out):
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "train"]


@pytest.fixture
def teacher(tiny, tmp_path):
    tlx.run(tiny(steps=20, seed=4), out=tmp_path / "teacher")
    return tmp_path / "teacher"


def test_a_file_with_its_backbone_is_the_run_that_left_it(tiny, tmp_path, teacher):
    file = f"safetensors:{teacher / 'model' / 'model.safetensors'}"
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    ways = {
        "run": str(teacher),
        "file": {"backbone": tiny()["backbone"], "weights": {"name": file, "input": half}},
    }
    for name, source in ways.items():
        divergence = [{"name": "kl", "weight": 0.5, "source": "teacher"}]
        table = tiny(sources={"teacher": source}, divergence=divergence)
        tlx.run(table, out=tmp_path / name)
    found = [[line["divergence/kl"] for line in trained(tmp_path / name)] for name in ways]
    assert found[0][0] > 1e-3
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.fixture
def of_two_classes(tiny, pictures, tmp_path):
    """A source that knows red and green; the data know blue, too."""
    held = dict(np.load(pictures))
    for split in ("train", "test"):
        kept = held[f"y_{split}"] < 2
        held[f"x_{split}"], held[f"y_{split}"] = held[f"x_{split}"][kept], held[f"y_{split}"][kept]
    held["class_names"] = held["class_names"][:2]
    path = tmp_path / "two.npz"
    np.savez(path, **held)
    tlx.run(tiny(steps=20, data={"name": "npz", "path": str(path)}), out=tmp_path / "two")
    return {"weights": f"run:{tmp_path / 'two'}"}


@pytest.mark.parametrize("name", ["lwf", "co_tuning"])
def test_a_source_keeps_its_own_head(tiny, tmp_path, of_two_classes, name):
    table = tiny(**of_two_classes, divergence=[{"name": name, "weight": 0.5}])
    experiment = assemble(parse(table))
    (source,) = experiment.constants.sources.values()
    assert source.params["head"]["kernel"].shape[-1] == 2
    assert experiment.variables.params["head"]["kernel"].shape[-1] == 3
    tlx.run(table, out=tmp_path / name)
    values = [line[f"divergence/{name}"] for line in trained(tmp_path / name)]
    assert np.isfinite(values).all()
    assert values[-1] > 0


def test_outputs_over_other_classes_are_still_refused(tiny, of_two_classes):
    table = tiny(**of_two_classes, divergence=[{"name": "js", "weight": 0.5}])
    with pytest.raises(ConfigError, match="compares outputs over different classes"):
        assemble(parse(table))
