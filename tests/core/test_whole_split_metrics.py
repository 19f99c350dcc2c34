"""Metrics of a whole split: gathered in the pass that measures, refused in sentences beforehand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tlx import config
from tlx.assemble import assemble
from tlx.errors import ConfigError, ContractError
from tlx.planning import whole_split_metrics
from tlx.studies import together
from tlx.training.split_metrics import answered, evaluated

HEADER = """
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Mine:
    better = "max"
    def collect(self, predictions, batch):
        return {"label": batch.targets["label"], "predicted": predictions["class"]}
    def compute(self, rows):
        return float((rows["label"] == rows["predicted"]).mean())
"""


@pytest.fixture
def mine(tmp_path):
    """A reference to a metric in a file, with a line of it replaced."""

    def mine(old="", new=""):
        file = tmp_path / "mine.py"
        file.write_text(HEADER.replace(old, new) if old else HEADER)
        return {"name": f"{file}:Mine"}

    return mine


def checked(table):
    """As `tlx run` does before it trains."""
    run = config.parse(table)
    config.check(run)
    return assemble(run)


def built(table):
    return assemble(config.parse(table))


@pytest.mark.parametrize("batch_size", [7, 50])
def test_a_metric_sees_every_example_once_and_in_order(tiny, mine, batch_size):
    """Batches of 7 of 50 end with padding; accuracy adds up and is known besides."""
    experiment = built(tiny(batch_size=batch_size, metric=["macro_f1", mine()]))
    given = experiment, experiment.final, experiment.variables, experiment.splits.test
    metrics = evaluated(*given).metrics
    found, said = answered(*given)
    assert found.metrics == metrics
    assert metrics["Mine"] == pytest.approx(metrics["accuracy"])
    assert said is not None
    np.testing.assert_array_equal(said["index"], experiment.splits.test.indices)
    assert accuracy_score(said["label"], said["predicted"]) == pytest.approx(metrics["Mine"])
    wanted = f1_score(said["label"], said["predicted"], average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(wanted)


def test_totals_are_those_of_a_run_without_metrics(tiny):
    each = [built(tiny(metric=metric)) for metric in ([], ["macro_f1"])]
    found = [evaluated(e, e.final, e.variables, e.splits.val).metrics for e in each]
    assert found[1].pop("macro_f1") >= 0
    assert found[0] == found[1]


def test_selection_is_the_heads_until_the_run_file_names_another(tiny):
    def selection(**changes):
        return built(tiny(**changes)).selection

    ece = [{"name": "calibration_error", "label": "ece"}]
    assert selection() == ("accuracy", "max")
    assert selection(metric=["macro_f1"]) == ("accuracy", "max")
    assert selection(metric=["macro_f1"], selection={"metric": "macro_f1"}) == ("macro_f1", "max")
    assert selection(metric=ece, selection={"metric": "ece"}) == ("ece", "min")
    assert selection(selection={"metric": "loss"}) == ("loss", "min")
    by_recall = selection(selection={"metric": "worst_recall", "better": "max"})
    assert by_recall == ("worst_recall", "max")


REFUSED = {
    "unknown": ({"metric": ["macro_f2"]}, "Did you mean 'macro_f1'"),
    "twice": ({"metric": ["macro_f1", "macro_f1"]}, "'macro_f1' is taken"),
    "not reported": ({"selection": {"metric": "balanced_acuracy"}}, "mean 'balanced_accuracy'"),
    "no such key": ({"selection": {"metrik": "loss"}}, "selection.metrik: unknown key"),
    "alone": ({"selection": {"better": "max"}}, "goes with `metric`"),
    "other way": ({"selection": {"metric": "loss", "better": "max"}}, "it is 'min', not 'max'"),
    "of the head": ({"metric": [{"name": "auroc", "label": "accuracy"}]}, "reports 'accuracy' its"),
    "no values": ({"metric": ["spearman"]}, "needs 'value' of the head's predictions"),
    "no head": ({"metric": ["auroc"], "head": "none", "strategy": "simclr"}, "trains no head"),
    "bad option": ({"metric": [{"name": "calibration_error", "bin": 3}]}, "mean 'bins'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_the_first_step(tiny, name):
    changes, words = REFUSED[name]
    with pytest.raises(ConfigError, match=words):
        checked(tiny(**changes))


BROKEN = {
    "one row": (
        'predictions["class"]}',
        'predictions["class"].sum()}',
        r"the shape \(\); its first",
    ),
    "no rows": ('return {"label"', 'return 1 or {"label"', "has to return arrays by name"),
    "no such": ('predictions["class"]}', 'predictions["clas"]}', r"'clas'.*mean 'class'"),
    "no direction": ('better = "max"', 'better = "up"', "has to be 'max' or 'min'"),
    "not frozen": ("(frozen=True)", "", "Make it a frozen dataclass"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_metric_is_named_before_the_first_step(tiny, mine, name):
    old, new, words = BROKEN[name]
    with pytest.raises(ContractError, match=words):
        built(tiny(metric=[mine(old, new)]))


AT_THE_END = {
    "nan": ("return float(", "return np.nan * float(", "gives nan, which is no finite number"),
    "vector": ("return float(", "return np.ones(3) * float(", "has to return one number"),
    "raises": (
        "return float(",
        "return rows[0] and float(",
        "`compute` of the metric.*fails.*mine",
    ),
    "refuses": (
        "        return float(",
        "        raise ValueError('One class.')\n        return float(",
        "'Mine' has no answer.*One class",
    ),
}


@pytest.mark.parametrize("name", AT_THE_END)
def test_a_number_that_is_none_is_a_sentence(tiny, mine, name):
    old, new, words = AT_THE_END[name]
    experiment = built(tiny(metric=[mine(old, new)]))
    with pytest.raises(ContractError, match=words):
        evaluated(experiment, experiment.final, experiment.variables, experiment.splits.val)


def test_what_would_not_fit_is_refused_with_the_figure(tiny, monkeypatch):
    monkeypatch.setattr(whole_split_metrics, "LIMIT", 100)
    with pytest.raises(ConfigError, match=r"'macro_f1' gathers 8 bytes of each example"):
        built(tiny(metric=["macro_f1"]))


ODD = """
from dataclasses import dataclass
from tlx_heads.softmax import Softmax

@dataclass(frozen=True)
class Odd:
    classes: int
    own = property(lambda self: Softmax(self.classes))
    needs = property(lambda self: self.own.needs)
    selection = property(lambda self: self.own.selection)
    def init(self, rng, features): return self.own.init(rng, features)
    def apply(self, params, state, features, *, inputs, rng, mode):
        return self.own.apply(params, state, features, inputs=inputs, rng=rng, mode=mode)
    def loss(self, outputs, batch): return self.own.loss(outputs, batch)
    def predict(self, outputs): return self.own.predict(outputs)
    def measure(self, outputs, batch): return self.own.measure(outputs, batch)
    def report(self, totals): return {**self.own.report(totals), "oddness": 1.0}
"""


def test_a_name_that_does_not_say_its_direction_is_asked_for(tiny, tmp_path):
    file = tmp_path / "heads.py"
    file.write_text(ODD)
    head = {"name": f"{file}:Odd"}
    with pytest.raises(ConfigError, match="a higher or a lower 'oddness' is better"):
        built(tiny(head=head, selection={"metric": "oddness"}))
    experiment = built(tiny(head=head, selection={"metric": "oddness", "better": "min"}))
    assert experiment.selection == ("oddness", "min")


def test_a_head_that_is_solved_for_chooses_by_its_own_metric(tiny):
    exact = {"name": "feature_transfer", "solver": "newton"}
    with pytest.raises(ConfigError, match="is solved for"):
        built(tiny(strategy=exact, metric=["macro_f1"], selection={"metric": "macro_f1"}))


def test_runs_with_metrics_are_trained_one_by_one(tiny):
    experiment = built(tiny(strategy="feature_transfer", metric=["macro_f1"]))
    assert "'macro_f1' is computed of one run at a time" in together.reason(experiment, [0])
