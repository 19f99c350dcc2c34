"""Intervals against the literature, and the sentence that compares."""

import pytest

from tlx.numerics.shares import difference, wilson
from tlx.reporting.wording import arms, comparison, ends, points, sweep_outcome
from tlx.studies.comparison import compared_on, outcome, ranked, row, sentence
from tlx.studies.sweep_results import over_seeds


def result(test, val=0.9, weights="w", count=1000):
    return {
        "test": {"accuracy": test, "loss": 1 - test},
        "val": {"accuracy": val, "loss": 1 - val},
        "weights": weights,
        "examples": {"test": count},
        "trainable_parameters": 10,
        "seconds": 1.0,
    }


def test_intervals_of_the_literature():
    # Newcombe 1998, Statistics in Medicine 17: 857-872 (single) and 873-890 (difference).
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert difference(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_an_interval_of_a_share_stays_one():
    for count in (1, 2, 3, 10, 1000):
        for right in {0, 1, count // 2, count - 1, count}:
            low, high = wilson(right / count, count)
            assert 0 <= low <= right / count <= high <= 1
    assert ends("accuracy", 0.98, 0.05) == "93.0 % to 100.0 %"
    assert ends("accuracy", 0.043, 0.089) == "0.0 % to 13.2 %"
    assert ends("loss", 0.1, 0.2) == "-0.100 to 0.300"
    row = {"point": {"seed": 1}, "mean": 0.99, "half": 0.08}
    sweep = {"metric": "accuracy", "axes": [{"key": "seed"}], "seeds": [0, 1], "points": [row]}
    assert points({**sweep, "chosen": {}})[1][2] == "91.0 % to 100.0 %"
    arm = {"arm": "scratch", "test": 0.02, "half": 0.1, "val": 0.1, "rate": 1, "gain": None}
    arm |= {"trained_parameters": 1, "seconds": 1}
    assert arms({"metric": "accuracy", "arms": [arm]})[1][2] == "0.0 % to 12.0 %"


def test_coverage_of_the_difference():
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = 0.93, 0.9
    inside = 0
    for _ in range(2000):
        low, high = difference(rng.binomial(400, a) / 400, 400, rng.binomial(400, b) / 400, 400)
        inside += low <= a - b <= high
    assert 0.935 <= inside / 2000 <= 0.97


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (
            0.95,
            0.90,
            "The source helps: probe 95.0 %, random 90.0 % on the test split, +5.0 points",
        ),
        (0.90, 0.95, "The source does not help, it hurts: "),
        (0.91, 0.90, "These results cannot tell whether the source helps: "),
    ],
)
def test_says_whether_the_source_helped(ours, theirs, verdict):
    results = {"probe": result(ours), "random": result(theirs, weights=None)}
    assert sentence(results, "accuracy", "max").startswith(verdict)


def test_compares_the_best_two_where_all_start_alike():
    results = {"a": result(0.8, 0.7), "b": result(0.9, 0.8), "c": result(0.95, 0.1)}
    assert sentence(results, "accuracy", "max").startswith("b is ahead: b 90.0 %, a 80.0 %")
    results = {"a": result(0.9), "b": result(0.9)}
    assert sentence(results, "accuracy", "max").startswith("a and b cannot be told apart")
    assert sentence(results, "loss", "min").startswith("a and b cannot be told apart")


def test_rows_and_order():
    results = {"a": result(0.8, 0.9), "b": result(0.9, 0.8)}
    assert ranked(results, "accuracy", "max", "test") == ["b", "a"]
    assert ranked(results, "loss", "min", "val") == ["a", "b"]
    assert row("a", results["a"], "accuracy")["low"] < 0.8
    assert "low" not in row("a", results["a"], "loss")


def test_where_a_domain_is_named_it_is_what_is_compared():
    """+15 points on the domain are no '-3.0 points, cannot be told apart' of the source's test."""

    def adapted(test, domain, val=0.9, name="usps"):
        tested = {"name": name, "test": {"accuracy": domain}, "examples": 500}
        return {**result(test, val), "domain": tested}

    both = {"plain": adapted(0.93, 0.60, 0.92), "mmd": adapted(0.90, 0.75)}
    where = compared_on(both)
    assert where == "the test pictures of the domain usps"
    said = sentence(both, "accuracy", "max")
    assert said.startswith("mmd is ahead: plain 60.0 %, mmd 75.0 % on the test pictures of the")
    assert "-15.0 points" in said
    made = row("mmd", both["mmd"], "accuracy", where)
    assert (made["domain"], made["test"]) == (0.75, 0.90)
    assert (made["low"], made["high"]) == wilson(0.75, 500)
    study = {"rows": [row(n, r, "accuracy", where) for n, r in both.items()], "metric": "accuracy"}
    head, first, _ = comparison(study)
    assert head[:5] == ["variant", "domain accuracy", "interval", "test accuracy", "val accuracy"]
    assert first[1:4] == ["60.0 %", "55.6 % to 64.2 %", "93.0 %"]
    assert "usps" in outcome({"adapt": {**both["mmd"], "selection": ["accuracy", "max"]}})
    # Without labels there, or with domains that differ, the test split is what all have.
    for other in (result(0.9), adapted(0.9, 0.7, name="svhn")):
        assert compared_on({"a": both["mmd"], "b": other}) == "the test split"
    untested = {**result(0.9), "domain": {"name": "usps", "test": None, "examples": 0}}
    assert compared_on({"a": untested, "b": untested}) == "the test split"


def test_a_sweep_tells_what_its_choice_does_on_the_domain():
    tested = [{"accuracy": 0.9, "domain/accuracy": 0.7}, {"accuracy": 0.8, "domain/accuracy": 0.6}]
    found = over_seeds(tested, "accuracy")
    assert found["test"]["accuracy"] == pytest.approx(0.85)
    assert found["domain"]["accuracy"] == pytest.approx(0.65)
    assert over_seeds([{"accuracy": 0.9}], "accuracy").keys() == {"test"}
    data = {"metric": "accuracy", "chosen": {"seed": 1}, "seeds": [0, 1], **found}
    said = sweep_outcome(data)
    assert "65.0 % accuracy on the domain's test pictures" in said
    assert said.index("domain") < said.index("85.0 % accuracy on the test split")
