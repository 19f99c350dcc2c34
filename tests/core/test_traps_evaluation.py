"""Numbers about something else than they seem to be: a naive script reports them, tlx does not."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer
from tlx_data.arrays import Arrays

import tlx
from tlx import config, registry
from tlx.assemble import assemble
from tlx.data import splits
from tlx.data.data_check import check
from tlx.errors import DataError
from tlx.training.split_metrics import evaluated
from tlx.types import Batch, unlabelled
from tlx.weights import saved

integer_loss = optax.softmax_cross_entropy_with_integer_labels


def test_a_label_that_is_no_class_trains_without_complaint(tiny, pictures, tmp_path):
    logits = jnp.asarray([[1.0, 2.0, 3.0]])
    assert integer_loss(logits, jnp.asarray([-1])) == integer_loss(logits, jnp.asarray([2]))
    assert jnp.isnan(integer_loss(logits, jnp.asarray([3])))[0]
    assert optax.softmax_cross_entropy(logits, jax.nn.one_hot(jnp.asarray([3]), 3))[0] == 0
    for wrong, said in ((-1, "negative label"), (3, "names 3 classes .* its labels need 4")):
        held = dict(np.load(pictures))
        held["y_train"][5] = wrong
        path = tmp_path / f"{wrong}.npz"
        np.savez(path, **held)
        with pytest.raises(DataError, match=said):
            assemble(config.parse(tiny(data={"name": "npz", "path": str(path), "val": 21})))


def test_the_last_batch_is_not_like_the_others(tiny, pictures, tmp_path):
    """100 pictures at batch 32, 96 of them right, and the 4 wrong ones last."""
    held = dict(np.load(pictures))
    held["x_test"] = held["x_test"].repeat(2, 0)
    held["y_test"] = held["y_test"].repeat(2)
    path = tmp_path / "hundred.npz"
    np.savez(path, **held)
    table = tiny(data={"name": "npz", "path": str(path), "val": 21}, batch_size=32)
    experiment = assemble(config.parse(table))
    batch = unlabelled({"image": held["x_test"]})
    features, _ = experiment.model.features(
        experiment.variables, batch, rng=jax.random.key(0), mode="eval"
    )
    logits, _ = experiment.model.apply_head(
        experiment.variables, features, inputs=batch.inputs, rng=jax.random.key(0), mode="eval"
    )
    predicted = np.asarray(logits).argmax(1)
    held["y_test"] = np.where(np.arange(100) < 96, predicted, (predicted + 1) % 3)
    np.savez(path, **held)

    right = predicted == held["y_test"]
    batches = [right[start : start + 32] for start in range(0, 100, 32)]
    assert np.mean([batch.mean() for batch in batches]) == 0.75
    assert np.mean([batch.mean() for batch in batches if len(batch) == 32]) == 1.0
    assert sum(batch.sum() for batch in batches) / (32 * len(batches)) == 0.75

    again = assemble(config.parse(table))
    found = evaluated(again, again.phases[-1], experiment.variables, again.splits.test)
    assert found.metrics["accuracy"] == pytest.approx(0.96, abs=1e-7)


def test_a_column_against_a_row_is_a_table():
    """Predictions (N,1), labels (N,), all of them right."""
    value = jnp.arange(4.0)
    assert jnp.square(value[:, None] - value).mean() == 2.5
    head = registry.build("heads", "regression", {})
    batch = Batch({}, {"label": value}, jnp.arange(4), jnp.ones(4))
    assert head.loss(value[:, None], batch).tolist() == [0, 0, 0, 0]
    with pytest.raises(DataError, match="shape"):
        head.loss(value[:, None], batch._replace(targets={"label": jnp.ones((4, 2))}))


def test_the_best_epoch_on_the_test_split_is_luck(tiny, tmp_path, monkeypatch):
    """Pictures that say nothing of their labels: a third is right, by chance."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 50)
    epochs = [np.mean(rng.integers(0, 3, 50) == label) for _ in range(40)]
    assert np.mean(epochs) == pytest.approx(1 / 3, abs=0.03)
    assert max(epochs) > 0.45

    opened, read = [], Arrays.__getitem__

    def noting(split, index):
        opened.append(len(split))
        return read(split, index)

    monkeypatch.setattr(Arrays, "__getitem__", noting)
    table = tiny(steps=6)
    table["data"]["check"] = 0
    tlx.run(table, out=tmp_path / "run")
    first = opened.index(50)
    assert {*opened[:first]} == {90}, "training, and validation, which is cut from it"
    assert opened[first:] == [50] * 50, "every test picture once, and nothing is trained on after"


def test_the_same_picture_in_training_and_test(tmp_path):
    """Every picture is there twice, its label drawn at random: there is nothing to be learnt, but a
    random split lets a neighbour remember."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 8, 8, 3), np.uint8).repeat(2, 0)
    label = rng.integers(0, 2, 60).repeat(2)
    order = rng.permutation(120)
    train, test = order[:84], order[84:]
    flat = image.reshape(120, -1).astype(float)
    nearest = np.square(flat[test, None] - flat[None, train]).sum(-1).argmin(1)
    assert np.mean(label[train][nearest] == label[test]) > 0.8
    path = tmp_path / "twice.npz"
    np.savez(path, x_train=image, y_train=label)
    source = registry.build("datasets", "npz", {"path": str(path)})
    parts = splits.cut(source, val=0.2, test=0.3, seed=0)
    found = check(parts.parts, source.info)
    shared = [finding.text for finding in found.findings if "train" in finding.text]
    assert any("of 'test' are in 'train', too" in text for text in shared), found.findings


def test_classes_in_the_order_of_a_listing(tiny, pictures, tmp_path):
    """At prediction there is a folder more, and every number means the class after it."""
    trained, there = ["blue", "green", "red"], ["blue", "cyan", "green", "red"]
    numbers = dict(enumerate(sorted(there)))
    assert [numbers[label] for label in range(3)] == ["blue", "cyan", "green"] != trained

    held = dict(np.load(pictures))
    for name in trained:
        (tmp_path / "photos" / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(held["x_train"], held["y_train"], strict=True)):
        name = held["class_names"][label]
        Image.fromarray(image).save(tmp_path / "photos" / name / f"{number}.png")
    data = {"name": "folder", "path": str(tmp_path / "photos"), "val": 12, "test": 12}
    tlx.run(tiny(data=data, steps=60), out=tmp_path / "run")
    for name in there:
        (tmp_path / "photos" / name).mkdir(exist_ok=True)
    png = []
    for image in held["x_test"][:12]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        png.append(file.getvalue())
    said = [row["class"] for row in saved.load(tmp_path / "run").predict(png)]
    assert {*said} <= {*trained}
    wanted = [held["class_names"][label] for label in held["y_test"][:12]]
    assert np.mean([a == b for a, b in zip(said, wanted, strict=True)]) > 0.6


def test_a_vocabulary_of_all_texts_knows_the_test(tiny, tmp_path):
    """Words that only test texts have get numbers, and rare ones of training lose theirs; a number
    about new texts is one about texts that the model has seen."""
    texts = {"train": "1\ta fine film\n0\ta dull film\n" * 8, "dev": "1\ta plot\n0\ta song\n" * 4}

    def written(name, test):
        folder = tmp_path / name
        folder.mkdir()
        for split, lines in {**texts, "test": test}.items():
            (folder / f"{split}.tsv").write_text(lines)
        return folder

    one = written("one", "1\ta fine opera opera\n0\ta dull opera opera\n" * 8)
    other = written("other", "0\tnothing of it all\n1\tis the same\n" * 9)

    lines = "".join(file.read_text() for file in one.glob("*.tsv")).splitlines()
    every = [line.split("\t")[1] for line in lines]
    naive = CountVectorizer(token_pattern=r"\w+", max_features=3).fit(every)
    assert "opera" in naive.vocabulary_

    def inputs(folder):
        data = {"name": "text_files", "path": str(folder), "check": 0}
        backbone = {"name": "bag_of_embeddings", "max_words": 3}
        table = tiny(data=data, backbone=backbone, weights="none")
        return assemble(config.parse(table)).model.inputs

    assert inputs(one) == inputs(other)
    assert inputs(one).words == ("a", "film", "dull")
