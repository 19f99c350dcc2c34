"""An installation that works is told from one that does not."""

import json

import jax
import pytest

from tlx import cli, registry
from tlx.commands import doctor


def test_it_says_what_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TLX_CACHE", str(tmp_path))
    (tmp_path / "frozen").mkdir()
    (tmp_path / "frozen" / "table").write_bytes(bytes(1000))
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["jax"] == jax.__version__
    assert len(found["devices"]) == jax.device_count()
    assert found["caches"][str(tmp_path / "frozen")] == [1, 1000]
    assert (found["broken"], found["test"]) == ([], "")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda *_, **__: {"test": {"accuracy": 0.4}}, "reached 40 % only"),
        (lambda *_, **__: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_training_that_goes_wrong(fault, said, capsys, monkeypatch):
    monkeypatch.setattr(doctor.study, "run", fault)
    monkeypatch.setattr(doctor, "load", lambda _: Nobody())
    assert cli.main(["doctor"]) == 2
    shown = capsys.readouterr()
    assert said in shown.out
    assert "Something is wrong with this installation" in shown.err


def test_a_model_that_is_not_what_was_tested(monkeypatch):
    monkeypatch.setattr(doctor, "load", lambda _: Nobody())
    assert "The saved toy is right in 33 %" in doctor.self_test()


class Nobody:
    """Sees the dark everywhere."""

    def predict(self, images):
        return [{"class": "dark"} for _ in images]


def test_a_broken_plugin_is_named(capsys, monkeypatch):
    def status(kind, *, imported):
        return [(registry.find("heads")[0], "it cannot be imported")]

    monkeypatch.setattr(registry, "status", status)
    monkeypatch.setattr(doctor, "self_test", lambda: "")
    assert cli.main(["doctor"]) == 2
    assert "it cannot be imported" in capsys.readouterr().out
