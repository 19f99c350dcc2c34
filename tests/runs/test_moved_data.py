"""A run is measured, used and gone on with from another folder, and when its data have moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import tlx
from tlx import config, study
from tlx.errors import ConfigError, DataError
from tlx.testing import toys


@pytest.fixture
def ran(tiny, pictures, tmp_path, monkeypatch):
    """The folder of a run that was started in `home`, where its files are named as they lie there;
    the process is in `away`."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    monkeypatch.chdir(home)
    shutil.copy(pictures, "colours.npz")
    Path("net.py").write_text(Path(toys.__file__).read_text())
    run = tiny(steps=2, data={"name": "npz:colours.npz", "val": 21}, backbone="net.py:ToyBackbone")
    tlx.run(run, out="run")
    monkeypatch.chdir(away)
    return home / "run"


def test_a_run_is_found_again_from_another_folder(ran, monkeypatch):
    there = study.evaluate(ran)
    assert len(tlx.load(ran).predict(np.zeros((8, 8, 3), np.uint8))) == 1
    again = tlx.run(config.read(ran), out=ran, resume=True)
    assert again["test"]["accuracy"] == there["test"]["accuracy"]
    monkeypatch.chdir(ran.parent)
    assert study.evaluate("run")["test"] == there["test"]


def test_data_that_have_moved_are_said_and_found(ran, tmp_path, pictures):
    before = study.evaluate(ran)
    (ran.parent / "colours.npz").rename(tmp_path / "away/moved.npz")
    with pytest.raises(DataError, match=r"not at .*home/colours\.npz any more.*data\.path=PLACE"):
        study.evaluate(ran)
    after = study.evaluate(ran, ["data.path=moved.npz"])
    assert after["test"] == before["test"]
    with pytest.raises(ConfigError, match="cannot change what it is: 'seed=3'"):
        study.evaluate(ran, ["seed=3"])


def test_a_project_that_was_moved_as_a_whole_is_one(ran, tmp_path):
    before = study.evaluate(ran)
    ran.parent.rename(tmp_path / "moved")
    there = tmp_path / "moved/run"
    assert study.evaluate(there, trust_code=True)["test"] == before["test"]
    assert len(tlx.load(there, trust_code=True).predict(np.zeros((8, 8, 3), np.uint8))) == 1
