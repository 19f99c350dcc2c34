"""The few-label tables: their arithmetic against scipy, their page, and that every run is one."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tlx import config as configs

TRANSFER = Path(__file__).resolve().parents[2] / "benchmarks" / "transfer"
SPEC = {
    "title": "A title",
    "about": "What it is.",
    "metric": "accuracy",
    "baseline": "plain",
    "seeds": 5,
    "setting": [{"name": "here", "published": {"good": 93.0}}, {"name": "there"}],
    "method": [{"name": "plain"}, {"name": "good"}, {"name": "same"}],
}


def module(name):
    if str(TRANSFER) not in sys.path:
        sys.path.insert(0, str(TRANSFER))
    spec = importlib.util.spec_from_file_location(name, TRANSFER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def page():
    return module("few_labels_page")


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(0)
    plain = 0.8 + 0.05 * rng.normal(size=5)
    noise = 0.01 * rng.normal(size=(2, 5))
    return {"plain": plain, "good": plain + 0.05 + noise[0], "same": plain + noise[1]}


@pytest.fixture(scope="module")
def lines(values):
    return [
        {
            "setting": "here", "method": method, "trial": {"divergence": [{"weight": 0.1}]},
            "seed": seed, "on": "test", "test": {"accuracy": float(accuracy)}, "parameters": 650,
            "seconds": 1.5, "date": "2026-01-02T03:04:05+00:00", "device": "cpu",
        }
        for method, found in values.items()
        for seed, accuracy in enumerate(found)
    ]  # fmt: skip


def test_differences_are_paired_and_their_interval_is_students(page, lines, values):
    for row in page.rows("here", SPEC, lines)[1:]:
        both = 100 * values[row.method], 100 * values["plain"]
        interval = stats.ttest_rel(*both).confidence_interval(0.95)
        assert row.ahead == pytest.approx(np.mean(both[0] - both[1]))
        assert row.ahead - row.half == pytest.approx(interval.low, abs=2e-3)
        assert row.ahead + row.half == pytest.approx(interval.high, abs=2e-3)


def test_one_seed_has_a_difference_and_no_interval(page, lines, values, tmp_path):
    first = [line for line in lines if line["seed"] == 0]
    good = page.rows("here", SPEC, first)[1]
    assert good.ahead == pytest.approx(100 * (values["good"][0] - values["plain"][0]))
    assert (good.half, good.verdict) == (None, "")
    page.render("table", {**SPEC, "seeds": 1}, first, tmp_path)
    assert f"| {good.ahead:+.1f} |" in (tmp_path / "table.md").read_text()


def test_a_setting_keeps_what_was_chosen_in_another(tmp_path, monkeypatch):
    tables = module("few_labels")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    path = TRANSFER / "tables" / "label_efficiency.toml"
    table = tables.Table(path, tmp_path, tmp_path)
    asked = []

    def validated(setting, method, trial, seed):
        asked.append(setting["name"])
        return {"val": {"accuracy": trial["optimizer"]["learning_rate"], "loss": 1.0}}

    monkeypatch.setattr(table, "validated", validated)
    few, more = table.spec["setting"][:2]
    assert table.chosen(more, table.spec["method"][0])["optimizer"] == {"learning_rate": 0.003}
    assert set(asked) == {few["name"]}


def test_the_quantiles_are_students(page):
    for freedom, quantile in page.T_95.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)


def test_the_page_says_what_can_be_told_and_what_is_missing(page, lines, tmp_path):
    page.render("table", SPEC, lines, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "Better than plain: good." in text
    assert "they bring nothing that 5 seeds show: same." in text
    assert "Not measured in full yet: there (0 of 3 methods)." in text
    assert "| weight 0.1 | 650 | 1.5 | 93.0 |" in text
    assert (tmp_path / "table.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("path", sorted(TRANSFER.glob("tables/*.toml")), ids=lambda path: path.stem)
def test_every_run_of_every_table_is_one(path, tmp_path, monkeypatch):
    tables = module("few_labels")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    table = tables.Table(path, tmp_path, tmp_path)
    monkeypatch.setattr(table, "chosen", lambda setting, method: method["trials"][0])
    setting = table.spec["setting"][-1]
    for method in table.methods(setting):
        assert method["name"] == table.spec["baseline"] or len(method["trials"]) in (1, 2, 4)
        for trial in method["trials"][-1:]:
            configs.check(configs.parse(table.table_of(setting, method, trial, 0)))
