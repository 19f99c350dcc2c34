"""A frozen prefix is computed once, and nobody can tell by the result."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx

CACHED = "was computed once"


def left(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    return load_file(out / "model" / "model.safetensors"), trained


@pytest.fixture
def source(tiny, tmp_path):
    tlx.run(tiny(steps=20), out=tmp_path / "source")
    return {"weights": f"run:{tmp_path / 'source'}"}


@pytest.mark.parametrize(
    ("strategy", "divergence"),
    [
        ("feature_transfer", []),
        ({"name": "finetune", "frozen": ["stage1"]}, []),
        ({"name": "finetune", "frozen": ["stage1"], "norm": "recompute"}, []),
        # The source's first stage is the frozen one, so that it starts from there, too.
        ({"name": "finetune", "frozen": ["stage1"]}, [{"name": "feature_l2", "weight": 0.5}]),
        ({"name": "finetune", "frozen": ["stage1"]}, [{"name": "kl", "weight": 0.5}]),
    ],
)
def test_cached_and_not_cached_end_alike(tiny, tmp_path, source, strategy, divergence, capsys):
    table = tiny(
        **source,
        strategy=strategy,
        divergence=divergence,
        optimizer={"name": "sgd", "learning_rate": 0.05},
        seed=3,
    )
    capsys.readouterr()
    once = tlx.run(table, out=tmp_path / "once")
    assert CACHED in capsys.readouterr().out
    anew = tlx.run({**table, "cache_gb": 0}, out=tmp_path / "anew")
    assert CACHED not in capsys.readouterr().out
    (a, steps), (b, others) = (left(tmp_path / name) for name in ("once", "anew"))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=2e-5, err_msg=name)
    for one, other in zip(steps, others, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-5)
    assert once["test"]["loss"] == pytest.approx(anew["test"]["loss"], rel=1e-3)


@pytest.mark.parametrize("change", [{"augmentation": ["flip"]}, {"cache_gb": 1e-9}])
def test_neither_augmented_pictures_nor_what_does_not_fit(tiny, tmp_path, source, change, capsys):
    tlx.run(tiny(**source, strategy="feature_transfer", **change), out=tmp_path / "a")
    assert CACHED not in capsys.readouterr().out


def test_a_source_with_other_first_stages_sees_the_pictures(tiny, tmp_path, source):
    """The prefix of the model serves no stranger."""
    tlx.run(tiny(steps=20, seed=9), out=tmp_path / "stranger")
    table = tiny(
        **source,
        strategy={"name": "finetune", "frozen": ["stage1"]},
        sources={"stranger": str(tmp_path / "stranger")},
        divergence=[{"name": "feature_l2", "weight": 0.5, "source": "stranger"}],
    )
    tlx.run(table, out=tmp_path / "once")
    tlx.run({**table, "cache_gb": 0}, out=tmp_path / "anew")
    (_, steps), (_, others) = (left(tmp_path / name) for name in ("once", "anew"))
    value = "divergence/feature_l2"
    assert steps[0][value] > 1e-3, "the two are strangers"
    for one, other in zip(steps, others, strict=True):
        assert one[value] == pytest.approx(other[value], rel=1e-3)
