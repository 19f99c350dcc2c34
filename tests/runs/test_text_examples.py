"""The examples on texts: real sentences and reviews, where they lie beside the repository."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

import tlx
from tlx.run_file.toml_file import read_table

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TLX_SHARED_DATA", ROOT.parent / "shared" / "data")) / "more"


def example(name, file, **changes):
    """The table of a run file, on the file of texts that it is written for."""
    if not (DATA / file).is_file():
        pytest.skip(f"{DATA / file} is not there")
    table = read_table(ROOT / "examples" / name)
    table["data"]["path"] = str(DATA / file)
    return {**table, **changes}


def test_sentences_are_learnt_from(tmp_path):
    table = example("texts.toml", "text_sst2.zip", sink=[], epochs=6)
    table["data"] |= {"limit": 400, "check": 0}
    tlx.run(table, out=tmp_path / "run")
    said = tlx.load(tmp_path / "run").predict(["a wonderful , moving film", "dull and stupid"])
    assert [one["class"] for one in said] == ["positive", "negative"]


def test_the_stages_of_another_domain_share_a_vocabulary(tmp_path):
    """The example with a few steps and no second variant."""
    table = example("text_domains.toml", "text_amazon.zip", sink=[], eval_every=1)
    books, kitchen = ({**stage, "epochs": 1} for stage in table["stage"])
    books["data"] |= {"limit": 50, "check": 0}
    kitchen["data"] |= {"check": 0}
    few = {**table, "stage": [books, kitchen], "variant": table["variant"][:1]}
    tlx.run(few, out=tmp_path / "run")
    models = [
        tlx.load(folder.parent).model for folder in sorted(tmp_path.glob("run/**/model/model.json"))
    ]
    assert len(models) == 2
    assert models[0].inputs == models[1].inputs
    assert {port.fields for port in models[1].ports} == {("title", "review")}


@pytest.mark.slow
def test_another_domain_helps(tmp_path):
    """Embeddings of reviews of books, on ten reviews of kitchen things a class."""
    table = example("text_domains.toml", "text_amazon.zip", sink=[])
    tlx.run(table, out=tmp_path / "run")

    def accuracy(name):
        result = json.loads((tmp_path / "run/kitchen" / name / "result.json").read_text())
        return result["test"]["accuracy"]

    scratch = accuracy("random-weights")
    assert accuracy("finetune-l2-sp") > scratch + 0.05
    assert accuracy("feature-transfer") > scratch + 0.05


@pytest.mark.slow
def test_sentences_are_learnt_as_well_as_by_scikit_learn(tmp_path):
    table = example("texts.toml", "text_sst2.zip", sink=[])
    result = tlx.run(table, out=tmp_path / "run")
    with zipfile.ZipFile(DATA / "text_sst2.zip") as archive:
        parts = {
            split: [line.split("\t") for line in archive.read(f"{split}.tsv").decode().splitlines()]
            for split in ("train", "test")
        }
    words = tlx.load(tmp_path / "run").model.inputs.words
    counts = CountVectorizer(vocabulary=words, token_pattern=r"\w+(?:'\w+)*")
    columns = {
        split: counts.fit_transform([text for _, text in rows]) for split, rows in parts.items()
    }
    labels = {split: [label for label, _ in rows] for split, rows in parts.items()}
    theirs = LogisticRegression(max_iter=1000).fit(columns["train"], labels["train"])
    accuracy = theirs.score(columns["test"], labels["test"])
    assert accuracy > 0.8
    assert result["test"]["accuracy"] > accuracy - 0.01
