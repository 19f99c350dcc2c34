"""A run of two views that is interrupted and resumed draws the views that it would have drawn."""

import json

import pytest

import tlx
from tlx.errors import Interrupted


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_a_run_that_is_resumed_ends_as_one_that_was_not(name, tiny, tmp_path, monkeypatch):
    table = tiny(
        head="none",
        strategy={"name": name, "projector": [6, 4], "views": ["flip", "crop"]}
        | ({"predictor": [5, 4]} if name == "byol" else {}),
    )
    whole = tlx.run(table, out=tmp_path / "whole")
    asked = iter([False] * 6 + [True] * 20)
    with monkeypatch.context() as patch:
        patch.setattr("tlx.loop.interruptible", lambda: _asking(asked))
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "broken")
    broken = tlx.run(table, out=tmp_path / "broken", resume=True)
    assert broken["test"] == whole["test"]
    last = [
        json.loads(line)
        for line in (tmp_path / "broken/metrics.jsonl").read_text().splitlines()
        if '"kind": "eval"' in line
    ][-1]
    assert last["metrics"]["rankme"] >= 1


class _asking:
    def __init__(self, answers):
        self.answers = answers

    def __enter__(self):
        return lambda: next(self.answers)

    def __exit__(self, *_):
        return None
