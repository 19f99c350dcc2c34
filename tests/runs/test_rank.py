"""Sources ranked for a target: the numbers of the table, the words beside it, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tlx
from tlx import cli
from tlx.errors import ConfigError, DataError
from tlx.selection import candidates, rank_table, source_words
from tlx.selection.ranking import Scored, _ends, pictures_of
from tlx.selection.trained_on import trained_on
from tlx.testing import toys

TOY = f"{toys.__file__}:ToyBackbone"


@pytest.fixture(scope="module")
def ran(pictures, tmp_path_factory):
    """The folder of a run on other pictures, as a source with a head."""
    folder = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(5)
    label = np.arange(60) % 3
    image = rng.integers(0, 120, (60, 8, 8, 3))
    image[np.arange(60), :, :, label] += 100
    np.savez(folder / "other.npz", x_train=image.astype(np.uint8), y_train=label)
    table = {
        "name": "source", "steps": 30, "batch_size": 20, "data": f"npz:{folder}/other.npz",
        "backbone": TOY, "optimizer": {"learning_rate": 0.02}, "sink": [],
    }  # fmt: skip
    tlx.run(table, out=folder / "source")
    return folder / "source"


@pytest.fixture(scope="module")
def ranked(pictures, ran):
    return tlx.rank(str(pictures), [str(ran), f"{TOY}=none"], resamples=20)


def tables(result):
    return {one["score"]: one for one in result["scores"]}


def test_every_installed_score_is_there_and_has_an_answer_or_a_reason(ranked):
    found = tables(ranked)
    assert {"probe", "logme", "leep", "task2vec", "size"} <= set(found)
    for one in found.values():
        assert len(one["rows"]) + len(one["unavailable"]) == 2
    reasons = {one["why"] for table in found.values() for one in table["unavailable"]}
    assert reasons == {
        "It has no head of its own.", "Its accuracy on its own test data is not known.",
    }  # fmt: skip


def test_the_numbers_are_those_of_the_scores_on_these_pictures(ranked, pictures, ran):
    """Features by `tlx.load`, scores by scikit-learn."""
    from sklearn.metrics import mutual_info_score

    model, on = tlx.load(ran), pictures_of(str(pictures), 1000)
    images = np.stack([on.part[i]["image"] for i in range(len(on.part))])
    assert ranked["pictures"] == len(images)
    answers = np.stack([row["probabilities"] for row in model.predict(images)])
    counts = np.bincount(on.labels) / len(on.labels)
    wanted = mutual_info_score(answers.argmax(1), on.labels) + np.sum(counts * np.log(counts))
    (row,) = tables(ranked)["nce"]["rows"]
    assert row["value"] == pytest.approx(wanted, abs=1e-6)
    features = model.features(images)["pooled"].astype(np.float64)
    seen = source_words.SourceWords(candidates.candidate(str(ran), "ran"), on)
    np.testing.assert_allclose(seen["features"], features, atol=1e-5)
    np.testing.assert_allclose(seen["source_outputs"], answers, atol=1e-5)


def test_rows_are_in_order_with_intervals_around_their_values(ranked):
    for one in ranked["scores"]:
        values = [row["value"] for row in one["rows"]]
        assert values == sorted(values, reverse=True)
        for row in one["rows"]:
            assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
    assert tables(ranked)["size"]["rows"][1]["rank"] == 1  # the same network: a tie
    assert ranked["sources"][0]["accuracy"] is not None


def test_a_clear_leader_and_one_that_cannot_be_told_apart(pictures, ran):
    def fixed(value, noise):
        rng = np.random.default_rng(0)

        def score(*, features, labels):
            lead = value if features.shape[1] == 8 and abs(features).sum() == most else 0.0
            return lead + noise * rng.normal(size=len(labels))

        return score

    sources = [str(ran), f"{TOY}=none"]
    words = [
        source_words.SourceWords(candidates.candidate(text, text), pictures_of(str(pictures), 1000))
        for text in sources
    ]
    most = abs(words[0]["features"]).sum()
    sure = tlx.rank(str(pictures), sources, scores={"mine": fixed(1.0, 0.1)})
    assert sure["text"].startswith("By mine, source is ahead of toys.py:ToyBackbone=none by 1")
    assert sure["scores"][0]["rows"][1]["apart"]
    unsure = tlx.rank(str(pictures), sources, scores={"mine": fixed(0.0, 1.0)})
    assert "cannot be told apart" in unsure["text"]
    assert not unsure["scores"][0]["rows"][1]["apart"]


def test_pictures_go_through_each_source_once(pictures, ran, monkeypatch):
    counts = []
    evaluation = source_words.evaluation
    monkeypatch.setattr(
        source_words, "evaluation", lambda *a, **k: counts.append(1) or evaluation(*a, **k)
    )
    tlx.rank(str(pictures), [str(ran)], scores=["probe", "knn", "leep", "h_score"])
    assert len(counts) == 1
    tlx.rank(str(pictures), [str(ran)], scores=["size"])
    assert len(counts) == 1


def test_only_training_pictures_are_looked_at_and_classes_keep_their_shares(pictures):
    whole, some = (pictures_of(str(pictures), many) for many in (1000, 30))
    assert whole.part.name == some.part.name == "train"
    np.testing.assert_array_equal(np.bincount(some.labels), [10, 10, 10])
    assert len(whole.part) == 81  # 90 without validation


def test_a_question_of_a_folder_is_answered_where_it_is_named(tmp_path):
    for name in ("bus", "car", "test"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 9, 9)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(DataError, match=r"--set data\.layout=classes"):
        pictures_of(str(tmp_path), 100)
    found = pictures_of(str(tmp_path), 100, ["data.layout=classes"])
    assert found.info.classes == ("bus", "car", "test")


def test_an_interval_of_a_share_stays_one():
    """What a probe says of 20 pictures, all right on the whole and most of them on halves."""
    sure = Scored(0, 1.0, np.asarray([1.0, 0.9, 1.0, 0.9]), 0.1, share=True)
    assert _ends(sure)["high"] == 1
    assert 0.8 < _ends(sure)["low"] < 1
    assert _ends(sure._replace(share=False))["high"] > 1


def test_what_cannot_be_ranked_is_refused(pictures, tmp_path):
    source = [f"{TOY}=none"]
    with pytest.raises(ConfigError, match="which is no source here"):
        tlx.rank(str(pictures), source, accuracies={"toys.py:ToyBackbone=non": 0.5})
    with pytest.raises(ConfigError, match="share from 0 to 1"):
        tlx.rank(str(pictures), source, accuracies={"toys.py:ToyBackbone=none": 91})
    with pytest.raises(ConfigError, match="no source to rank"):
        tlx.rank(str(pictures), [])
    file = tmp_path / "numbers.npz"
    np.savez(file, x_train=np.zeros((9, 8, 8, 3), np.uint8), y_train=np.linspace(0, 1, 9))
    with pytest.raises(DataError, match="labels that are wanted are class numbers"):
        tlx.rank(str(file), source)


def test_the_command_prints_the_table_and_writes_a_page(pictures, ran, tmp_path, capsys):
    out = tmp_path / "ranked"
    words = ["rank", str(pictures), "--sources", str(ran), f"{TOY}=none", "--score", "knn",
             "--score", "leep", "--accuracy", f"{TOY}=none=0.5", "--compare", str(pictures),
             "--halves", "10", "--out", str(out)]  # fmt: skip
    assert cli.main([*words, "--debug"]) == 0
    printed = capsys.readouterr().out
    assert "leep of toys.py:ToyBackbone=none: It has no head of its own." in printed
    assert "By knn, " in printed
    assert "10 random halves" in printed
    found = json.loads((out / "rank.json").read_text())
    assert found["by"] == "knn"
    assert [one["measure"] for one in found["similarity"]] == [
        "cka",
        "task2vec",
        "mmd",
        "wasserstein",
    ]
    assert found["similarity"][1]["matrix"][0][1] == pytest.approx(0, abs=1e-9)  # the same data
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 6
    assert found["text"] in page.replace("&#39;", "'")


def test_a_run_that_was_trained_on_the_target_is_told(ran, monkeypatch):
    monkeypatch.chdir(ran.parent)
    (note,) = tlx.rank("other.npz", ["source"], scores=["size"])["notes"]
    assert note.startswith("The run source was trained on these data")


def test_a_run_without_a_head_has_seen_no_labels(ran, monkeypatch):
    monkeypatch.chdir(ran.parent)
    text = Path("source/run.toml").read_text().replace('name = "softmax"', 'name = "none"')
    Path("blind").mkdir()
    Path("blind/run.toml").write_text(f'head = "none"\n{text[: text.index("[head]")]}')
    (note,) = trained_on("other.npz", ["blind"])
    assert note.startswith("The run blind has learnt from these pictures, without their labels")


def test_another_target_is_no_reason_for_a_note(ranked):
    assert ranked["notes"] == []


def test_data_sets_are_nearer_to_themselves_than_to_others(pictures, ran):
    found = tlx.similarity(
        [str(pictures), f"{ran.parent}/other.npz", "digits"], str(ran), images=60
    )
    assert [one["measure"] for one in found] == ["task2vec", "mmd", "wasserstein"]
    for one in found:
        matrix = np.asarray(one["matrix"])
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), 0)
        assert matrix[0, 1] < matrix[0, 2]  # colours are nearer to colours than to digits


def test_a_misspelt_score_is_answered_at_once(capsys):
    assert cli.main(["rank", "nowhere", "--score", "logmee"]) == 2
    assert "Did you mean 'logme'" in capsys.readouterr().err


def test_a_table_says_who_cannot_be_told_apart(ranked):
    text = "\n".join("  ".join(row) for row in rank_table.scores(ranked))
    assert "not available" in text
    assert rank_table.scores(ranked)[1][0] == "probe"
