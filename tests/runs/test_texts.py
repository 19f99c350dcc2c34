"""Runs on texts: through the same strategies and divergences, with a vocabulary that is learnt
once, saved with the model, and never learnt again."""

import csv
import io
import json
import re
import sys

import numpy as np
import pytest

import tlx
from tlx import cli
from tlx.assemble import assemble
from tlx.config import parse
from tlx.data.shown import show_examples
from tlx.errors import CheckpointError, ConfigError, Interrupted, WeightsError
from tlx.run_one import evaluate_run
from tlx.trees import flat
from tlx.weights import saved

GOOD, BAD = ("good", "fine", "great"), ("bad", "dull", "poor")
COMMON = ("the", "film", "plot", "is", "a", "and", "very")


def write_texts(folder, seed=0, common=COMMON):
    """Sentences of which one word says whether they are good."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for split, count in (("train", 60), ("dev", 20), ("test", 20)):
        lines = []
        for number in range(count):
            words = [*rng.choice(common, rng.integers(2, 6)), rng.choice((BAD, GOOD)[number % 2])]
            lines.append(f"{('no', 'yes')[number % 2]}\t{' '.join(rng.permutation(words))}\n")
        (folder / f"{split}.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def sentences(tmp_path):
    return write_texts(tmp_path / "sentences")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, and its result; its sentences lie beside."""
    home = tmp_path_factory.mktemp("trained")
    folder = write_texts(home / "sentences")
    return home, tlx.run(table(folder), out=home / "run")


def table(folder, **changes):
    return {
        "name": "tiny",
        "steps": 24,
        "batch_size": 10,
        "eval_every": 0.5,
        "log_every": 2,
        "checkpoint_seconds": 0,
        "data": {"name": "text_files", "path": str(folder)},
        "backbone": {"name": "bag_of_embeddings", "width": 8, "dropout": 0.1},
        "weights": "none",
        "strategy": "finetune",
        "optimizer": {"name": "adam", "learning_rate": 0.1},
        "sink": [],
        **changes,
    }


def texts_of(folder, split):
    lines = (folder / f"{split}.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines]


def test_what_is_tested_is_what_the_saved_model_predicts(trained):
    home, result = trained
    assert result["test"]["accuracy"] > 0.9
    model = tlx.load(home / "run")
    labels, texts = zip(*texts_of(home / "sentences", "test"), strict=True)
    said = model.predict(list(texts))
    right = np.mean([one["class"] == label for one, label in zip(said, labels, strict=True)])
    assert right == pytest.approx(result["test"]["accuracy"])
    truth = np.array([["no", "yes"].index(label) for label in labels])
    chances = np.stack([one["probabilities"] for one in said])[np.arange(20), truth]
    assert -np.log(chances).mean() == pytest.approx(result["test"]["loss"], rel=1e-5)
    again = evaluate_run(home / "run")
    assert again["test"]["loss"] == pytest.approx(result["test"]["loss"], rel=1e-6)
    one = model.predict("a very GOOD film!")[0]
    assert one["class"] == "yes"
    assert model.features(texts[0])["pooled"].shape == (1, 8)


def test_the_vocabulary_is_a_file_of_the_models_folder(sentences, tmp_path, capsys):
    tlx.run(table(sentences, steps=2), out=tmp_path / "run")
    folder = tmp_path / "run/model"
    about = json.loads((folder / "model.json").read_text())["inputs"]["text"]
    assert "words" not in about["options"]
    words = json.loads((folder / about["assets"]["words"]["file"]).read_text())
    assert set(words) == {word for _, text in texts_of(sentences, "train") for word in text.split()}
    assert cli.main(["weights", "inspect", str(tmp_path / "run")]) == 0
    assert f"words {len(words)} in a file" in capsys.readouterr().out
    file = folder / "assets/text.words"
    file.write_text(file.read_text().replace('"good"', '"goop"'))
    with pytest.raises(WeightsError, match=r"text\.words is damaged or belongs to another model"):
        tlx.load(tmp_path / "run")
    file.unlink()
    with pytest.raises(WeightsError, match=r"text\.words is missing"):
        tlx.load(tmp_path / "run")
    outside = json.loads((folder / "model.json").read_text())
    outside["inputs"]["text"]["assets"]["words"]["file"] = "../run.toml"
    (folder / "model.json").write_text(json.dumps(outside))
    with pytest.raises(WeightsError, match="is no file of the folder 'assets'"):
        tlx.load(tmp_path / "run")


def test_a_run_goes_on_where_it_stopped(trained, tmp_path, monkeypatch, digests, stopping_after):
    home, _ = trained
    again, out = table(home / "sentences"), tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Interrupted):
            tlx.run(again, out=out)
    tlx.run(again, out=out, resume=True)
    assert digests(out) == digests(home / "run")
    words = "model/assets/text.words"
    assert (out / words).read_bytes() == (home / "run" / words).read_bytes()


def test_a_run_does_not_go_on_with_another_vocabulary(
    sentences, tmp_path, monkeypatch, stopping_after
):
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Interrupted):
            tlx.run(table(sentences), out=tmp_path / "run")
    file = sentences / "train.tsv"
    file.write_text(file.read_text().replace("film", "movie"))
    with pytest.raises(CheckpointError, match="is not what the run"):
        tlx.run(table(sentences), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": [{"name": "l2_sp", "weight": 0.01}]},
        {"strategy": "feature_transfer"},
    ],
)
def test_a_run_that_starts_from_another_has_its_vocabulary(trained, tmp_path, changes):
    """The same strategies and divergences as for images; nothing is learnt of the new texts."""
    home, _ = trained
    other = write_texts(tmp_path / "other", 1, ("book", "the", "page", "is"))
    start = table(other, weights=f"run:{home / 'run'}", **changes)
    result = tlx.run(start, out=tmp_path / "run")
    assert result["test"]["accuracy"] > 0.9
    models = [saved.load(path / "run").model for path in (home, tmp_path)]
    assert models[0].inputs == models[1].inputs
    assert models[0].backbone == models[1].backbone
    assert "page" not in models[1].inputs.words


def test_what_a_run_file_says_of_a_vocabulary_that_is_there(trained):
    home, _ = trained
    sentences = home / "sentences"
    weights = {"name": f"run:{home / 'run'}", "input": {"min_count": 2}}
    with pytest.raises(ConfigError, match="the vocabulary is that of the weights"):
        assemble(parse(table(sentences, weights=weights)))
    longer = assemble(parse(table(sentences, weights={**weights, "input": {"length": 9}})))
    assert longer.model.inputs.length == 9


def test_a_source_with_another_vocabulary_is_refused(trained, tmp_path):
    home, _ = trained
    other = write_texts(tmp_path / "other", 1, ("book", "the", "page", "is"))

    def taught(folder):
        divergence = [{"name": "kl", "weight": 1.0, "source": "teacher"}]
        sources = {"teacher": {"run": str(home / "run")}}
        return parse(table(folder, sources=sources, divergence=divergence))

    with pytest.raises(ConfigError, match="takes 'text' in another form than the network"):
        assemble(taught(other))
    assemble(taught(home / "sentences"))  # learnt of the same texts


def test_two_texts_of_an_example_at_one_port(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"{n % 2}\tt{n % 2} title\tsome words {n}\n" for n in range(40)))
    data = {"name": "text_files", "path": str(path), "columns": ["label", "title", "body"],
            "val": 8, "test": 8}  # fmt: skip
    with pytest.raises(ConfigError, match="several fields of the kind 'text'"):
        assemble(parse(table(path, data=data)))
    both = {"inputs": {"text": ["title", "body"]}}
    tlx.run(table(path, data=data, model=both), out=tmp_path / "run")
    model = tlx.load(tmp_path / "run")
    said = model.predict({"title": ["t0 title", "t1 title"], "body": ["some words", "words 3"]})
    assert [one["class"] for one in said] == ["0", "1"]
    assert {"t1", "title", "some", "words"} < set(model.model.inputs[0].input.words)
    seen = assemble(parse(table(path, data=data, model=both)))
    shown = show_examples(seen.splits.train, [0], seen.model.ports, seen.info)
    assert re.fullmatch(r"t. title · some words \d+", shown[0])


def test_two_texts_of_an_example_at_a_tower_each(tmp_path):
    """Each has a vocabulary of its own, and a table of its size."""
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"{n % 2}\tt{n % 2}\tsome words {n}\n" for n in range(40)))
    data = {"name": "text_files", "path": str(path), "columns": ["label", "title", "body"],
            "val": 8, "test": 8}  # fmt: skip
    bag = {"name": "bag_of_embeddings", "width": 4}
    towers = {"name": "towers", "towers": {"title": bag, "body": bag}}
    tlx.run(table(path, data=data, backbone=towers), out=tmp_path / "run")
    model = tlx.load(tmp_path / "run")
    rows = [port.input.rows for port in model.model.ports]
    assert rows[0] == 3 + 2 < rows[1]
    leaves = flat(model.variables.params["backbone"])
    assert [leaves[f"{n}/embed/table/embedding"].shape for n in ("title", "body")] == [
        (count, 4) for count in rows
    ]
    said = model.predict({"title": ["t0", "t1"], "body": ["some words", "words 3"]})
    assert [one["class"] for one in said] == ["0", "1"]


def test_predictions_on_the_command_line(trained, tmp_path, monkeypatch, capsys):
    home, _ = trained
    monkeypatch.chdir(tmp_path)

    def said(*words, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        assert cli.main(["predict", str(home / "run"), *words]) == 0
        return capsys.readouterr().out

    assert said("a good film").split("  ")[:2] == ["a good film", "class yes"]
    assert [line.split("  ")[0] for line in said("good", "bad").splitlines()] == ["good", "bad"]
    long = "a good \n film " * 40
    assert said(long, "bad").startswith(f"{' '.join(long.split())[:59]}…  class yes")
    assert json.loads(said(long, "--json"))[0]["text"] == long
    (tmp_path / "good").write_text("a file that is called like a text")
    (tmp_path / "list").write_text("a good plot\n\nvery, very bad\ngood\n")
    rows = list(csv.DictReader(io.StringIO(said("@list", "--csv"))))
    assert [row["text"] for row in rows] == ["a good plot", "very, very bad", "good"]
    assert [row["class"] for row in rows] == ["yes", "no", "yes"]
    found = json.loads(said("-", "--json", stdin="dull plot\nfine plot\n"))
    assert [(one["text"], one["class"]) for one in found] == [
        ("dull plot", "no"), ("fine plot", "yes"),
    ]  # fmt: skip
    assert cli.main(["predict", str(home / "run"), "@nowhere"]) == 2
    assert "What begins with @ is the name of a list" in capsys.readouterr().err


def test_data_checks_and_reports_show_texts(sentences, tmp_path, capsys):
    with (sentences / "test.tsv").open("a") as file:
        label, text = texts_of(sentences, "train")[0]
        file.write(f"{label}\t{text.upper()}\nyes\t<b>fine</b> & good\nno\t...\n")
    assert cli.main(["data", "check", f"text_files:{sentences}"]) == 2
    said = capsys.readouterr().out
    assert "1 text of 'test' is in 'train', too" in said
    assert "test.tsv:21 = train.tsv:1" in said
    assert "1 text without any content." in said
    assert "picture" not in said
    tlx.run(table(sentences, sink=["html"]), out=tmp_path / "run")
    page = (tmp_path / "run/report.html").read_text()
    assert "Some of the texts that it trained on." in page
    assert "<h2>Test texts</h2>" in page
    assert f"<p>{texts_of(sentences, 'train')[0][1]}</p>" in page
    shown = [text for _, text in texts_of(sentences, "test") if f"<p>{text}</p>" in page]
    assert len(shown) > 5
    assert "<b>fine</b>" not in page
    assert "pictures" not in page.split("</style>")[1]
