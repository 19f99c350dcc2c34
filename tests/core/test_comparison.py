"""Intervals against the literature, and the sentence that compares."""

import pytest

from tlx.numerics.shares import difference, wilson
from tlx.reporting.wording import arms, ends, points
from tlx.studies.comparison import ranked, row, sentence


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
