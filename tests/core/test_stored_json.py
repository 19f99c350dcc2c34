"""Files that a run, a sweep or an audit left, damaged: a sentence with what to do, or what a line
of it said is computed again."""

import json

import numpy as np
import pytest

from tlx.errors import CheckpointError
from tlx.files.stored_json import read_object
from tlx.run_folder import folder
from tlx.sinks import read_jsonl
from tlx.studies import audit_results, auditing, comparison, sweep
from tlx.studies.sweep_results import Found

DAMAGED = [b"", b"\xff\xfe", b'{"a": ', b"[1]", b"3", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_what_is_no_object_is_a_sentence(content, tmp_path):
    file = tmp_path / "some.json"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"some\.json is damaged, so that nobody knows\."):
        read_object(file, ", so that nobody knows.")
    asked = auditing.Asked(5, 3, (), resplit=False)
    with pytest.raises(CheckpointError, match=r"--overwrite"):
        auditing._check_asked(file, asked, resume=True)
    with pytest.raises(CheckpointError, match=r"--overwrite"):
        sweep._check_space(file, {}, resume=True)


def test_what_is_whole_is_read(tmp_path):
    (tmp_path / "x").write_text('{"é": [1]}', encoding="utf-8")
    assert read_object(tmp_path / "x", "") == {"é": [1]}


@pytest.mark.parametrize(
    "damage",
    [
        b'{"point": {"a": 0.3}, "val": [{"accu', b"[" * 100_000, b"\xff", b"3", b"null",
        b'{"point": 3, "val": [{"accuracy": 0.9, "loss": 0.1}]}',
        b'{"point": {"a": 0.3}, "val": [{"accurapy": 0.9, "loss": 0.1}]}',
        b'{"point": {"a": 0.3}, "val": [{"accuracy": "0.9", "loss": 0.1}]}',
        b'{"point": {"a": 0.3}, "val": []}',
    ],
)  # fmt: skip
def test_a_damaged_point_is_trained_again(damage, tmp_path):
    file = tmp_path / sweep.LINES
    first = Found(file, "accuracy", "max")
    first.add({"a": 0.1}, [{"accuracy": 0.5, "loss": 1.0}])
    file.write_bytes(damage + b"\n" + file.read_bytes())
    found = Found(file, "accuracy", "max")
    assert len(found) == 1
    assert found.best() == {"a": 0.1}
    assert {"a": 0.3} not in found


def test_events_after_a_damaged_line_are_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for damage in (b'{"step": 2, "lo', b"\xff", b"[]", b'{"step": "2"}', b"[" * 100_000):
        file.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
        assert read_jsonl(file) == [{"step": 1}]


def test_damaged_answers_are_a_sentence(tmp_path):
    file = tmp_path / "answers.npz"
    np.savez(file, index=np.arange(3), label=np.arange(3), predicted=np.arange(3))
    assert json.dumps(audit_results._answers(file)["label"].tolist()) == "[0, 1, 2]"
    whole = file.read_bytes()
    np.savez(tmp_path / "other", index=np.arange(3), label=np.arange(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, index=np.array([{}]), label=np.arange(1), predicted=np.arange(1))
    for damage in (whole[:-30], b"", pickled.read_bytes(), (tmp_path / "other.npz").read_bytes()):
        file.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"answers\.npz is damaged\. Remove the folder"):
            audit_results._answers(file)


RESULT = {
    "test": {"accuracy": 0.5}, "val": {"accuracy": 0.4}, "selection": ["accuracy", "max"],
    "examples": {"test": 40}, "weights": None, "trainable_parameters": 3, "seconds": 1.5,
}  # fmt: skip


def test_a_whole_result_is_read_and_compared(tmp_path):
    assert folder.read_run(tmp_path) is None
    folder.write_json(tmp_path / folder.RESULT, RESULT)
    found = folder.read_run(tmp_path)
    assert found == RESULT
    assert comparison.row("x", found, "accuracy")["test"] == 0.5
    assert comparison.sentence({"a": found, "b": found}, "accuracy", "max")


@pytest.mark.parametrize("damage", [None, "0.5", [1], {}, ["accuracy"], [["accuracy"], "max"]])
@pytest.mark.parametrize("key", RESULT)
def test_a_result_that_lacks_something_is_a_sentence(key, damage, tmp_path):
    """Each key away, and each with what it never holds."""
    for other in (
        {k: v for k, v in RESULT.items() if k != key},
        {**RESULT, key: 3 if key == "weights" else damage},
    ):
        folder.write_json(tmp_path / folder.RESULT, other)
        with pytest.raises(CheckpointError, match=rf"it lacks '{key}.*Remove it and use --resume"):
            folder.read_run(tmp_path)
