"""A frozen prefix is computed once, and nobody can tell by the result."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.feeding import feed, frozen_tables
from tlx.files.cache_folder import cache_folder
from tlx.run_one import evaluate_run

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
    if not divergence:
        table["data"]["sampling"] = "balanced"
    once = tlx.run(table, out=tmp_path / "once")
    assert CACHED in capsys.readouterr().out
    anew = tlx.run({**table, "cache_gb": 0}, out=tmp_path / "anew")
    assert CACHED not in capsys.readouterr().out
    (a, steps), (b, others) = (left(tmp_path / name) for name in ("once", "anew"))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=2e-5, err_msg=name)
    for one, other in zip(steps, others, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3, abs=1e-5)
        assert "features_per_second" in one.keys() - other.keys()  # no picture passed
        assert "images_per_second" in other.keys() - one.keys()
    assert once["test"]["loss"] == pytest.approx(anew["test"]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "change", [{"augmentation": ["flip"]}, {"cache_gb": 1e-9, "cache_disk_gb": 0}]
)
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


def test_files_serve_where_memory_does_not_and_the_next_run(tiny, tmp_path, source, capsys):
    table = tiny(**source, strategy={"name": "finetune", "frozen": ["stage1"]})
    tlx.run(table, out=tmp_path / "memory")
    filed = {**table, "cache_gb": 1e-9}
    capsys.readouterr()
    tlx.run(filed, out=tmp_path / "files")
    assert f"MB in {cache_folder() / 'frozen'}" in capsys.readouterr().out
    tlx.run({**filed, "seed": 7, "batch_size": 15}, out=tmp_path / "again")
    assert "had been computed and is used again" in capsys.readouterr().out
    a, b = (left(tmp_path / name)[0] for name in ("memory", "files"))
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_variants_share_what_is_frozen(tiny, tmp_path, source, capsys):
    table = tiny(**source, strategy="feature_transfer", variant=[
        {"name": "slow", "optimizer": {"learning_rate": 0.01}},
        {"name": "fast", "optimizer": {"learning_rate": 0.1}},
    ])  # fmt: skip
    capsys.readouterr()
    tlx.run(table, out=tmp_path / "study")
    said = capsys.readouterr().out
    assert said.count(CACHED) == said.count("had been computed and is used again") == 1


def test_a_table_is_that_of_its_weights_data_and_preprocessing(tiny, tmp_path, source, pictures):
    def key(subset="train", **changes):
        """The key of the table of a split."""
        table = tiny(**{**source, "strategy": "feature_transfer", **changes})
        experiment = assemble(parse(table))
        planned, part = experiment.phases[0], getattr(experiment.splits, subset)
        return frozen_tables.order_of(
            experiment, planned, experiment.variables, part, False, augment=True
        ).key

    mean = {"input": {"mean": [0.4] * 3, "std": [0.5] * 3}}
    tlx.run(tiny(steps=20, seed=9), out=tmp_path / "stranger")
    with np.load(pictures) as file:
        arrays = dict(file)
    arrays["x_train"][-1, 0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **arrays)
    flipped = {"augmentation": ["flip"], "cache_views": 2}
    several = [
        key(),
        key(subset="val"),
        key(weights=f"run:{tmp_path / 'stranger'}"),
        key(weights={"name": "run", "path": source["weights"].removeprefix("run:"), **mean}),
        key(data={"name": "npz", "path": str(tmp_path / "other.npz"), "val": 21}),
        key(**flipped),
        key(**flipped, seed=5),
    ]
    assert len(set(several)) == len(several)
    # Neither the head's start nor what the run does with it changes a thing.
    other = {"batch_size": 15, "seed": 5, "optimizer": {"name": "sgd", "learning_rate": 1.0}}
    assert key(**other) == several[0]


def test_a_few_views_are_drawn_once_and_taken_in_turn(tiny, tmp_path, source, capsys):
    table = tiny(
        **source, strategy="feature_transfer", augmentation=["flip"], cache_views=2, steps=30
    )
    experiment = assemble(parse(table))
    found = feed.tables(experiment, experiment.phases[0], experiment.variables)["train"]
    count = len(experiment.splits.train)
    assert (len(found), found.views, len(found.rows.index)) == (count, 2, 2 * count)
    rows = found.numbers(count, 0)
    epochs = [rows(step) // count for step in range(4)]  # a batch is an epoch
    assert [set(view) for view in epochs] == [{0}, {1}, {0}, {1}]

    rows = found.numbers(3, 0, balanced=True)
    drawn = np.concatenate([rows(step) for step in range(200)])
    assert np.bincount(found.rows.targets["label"][drawn]).tolist() == [200] * 3
    for number in range(count):  # in turn, whenever its own turn comes
        views = drawn[drawn % count == number] // count
        np.testing.assert_array_equal(views, np.arange(len(views)) % 2)

    # Each view is the network's word on the picture or on its mirror image; both occur.
    batch = next(iter(frozen_tables.host_batches(experiment, experiment.splits.train, count)))
    model, own = experiment.phases[0].model, experiment.variables
    plain, mirrored = (
        np.asarray(model.frozen_features(own, seen, rng=jax.random.key(0)).features["pooled"])
        for seen in (batch, batch._replace(inputs={"image": batch.inputs["image"][:, :, ::-1]}))
    )
    said = found.rows.frozen.features["pooled"].reshape(2, count, -1)
    is_plain, is_mirrored = (np.abs(said - by).max(-1) < 1e-4 for by in (plain, mirrored))
    assert (is_plain | is_mirrored).all()
    assert 0.2 < is_mirrored.mean() < 0.8
    assert (is_plain[0] != is_plain[1]).any()

    capsys.readouterr()
    tlx.run(table, out=tmp_path / "views")
    assert "(2 views of each to train on)" in capsys.readouterr().out
    tlx.run({**table, "cache_views": 9}, out=tmp_path / "many")
    assert "cache_views = 9 saves nothing" in capsys.readouterr().out


@pytest.mark.parametrize("start", [0, 3, 7, 16, 23])
def test_calls_end_at_evaluations_wherever_they_begin(tiny, start):
    experiment = assemble(parse(tiny(strategy="feature_transfer", steps=30)))
    (planned,) = experiment.phases
    whole = np.cumsum(list(feed.lengths(planned, 0, 10, 4)))
    assert list(whole) == [4, 8, 10, 14, 18, 20, 24, 28, 30]
    later = start + np.cumsum(list(feed.lengths(planned, start, 10, 4)))
    assert list(later) == [stop for stop in whole if stop > start]


def test_validation_is_not_computed_again_at_the_end(tiny, tmp_path, source):
    """What the result says of the best step is what was measured there, after resuming, too, and
    what a pass over the pictures says."""
    out = tmp_path / "run"
    table = tiny(**source, strategy="feature_transfer", steps=20)
    val = tlx.run(table, out=out)["val"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = [line["metrics"] for line in lines if line["kind"] == "eval" and line["best"]][-1]
    assert val == best
    (out / "result.json").unlink()  # as if killed after the last step was saved
    assert tlx.run(table, out=out, resume=True)["val"] == val
    anew = evaluate_run(out)["val"]
    assert {name: anew[name] for name in val} == pytest.approx(val, rel=1e-5)
