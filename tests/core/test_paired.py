"""Paired tests over seeds and examples, against scipy and against repetitions of a known truth."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tlx.numerics.paired import flipped, layout, over_seeds, paired


def test_over_seeds_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.8, 0.1, 6), rng.normal(0.7, 0.1, 6)
    found, expected = over_seeds(ours - theirs), stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert over_seeds([0.3]) == (0.3, float("inf"), 1.0, float("inf"))


@pytest.mark.parametrize("way", [0, 1])
def test_where_one_way_alone_varies_it_is_the_t_test_of_that(way):
    values = np.random.default_rng(way).normal(0.2, 1, 7)
    whole = np.repeat(values[:, None], 9, 1)
    found = layout(whole if way == 0 else whole.T).tested(values.mean())
    expected = stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.half == pytest.approx(np.ptp(expected.confidence_interval()) / 2)


def test_one_seed_is_the_t_test_over_examples():
    values = np.random.default_rng(0).normal(0.2, 1, (1, 30))
    found = layout(values).tested(values.mean())
    assert found.p == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue)


def test_the_error_is_that_of_a_two_way_layout_by_hand():
    values = np.random.default_rng(3).normal(0, 1, (4, 1)) + np.random.default_rng(4).normal(
        0, 1, (4, 12)
    ) + 2 * np.random.default_rng(5).normal(0, 1, (1, 12))  # fmt: skip
    found = layout(values)
    rows, columns = values.mean(1), values.mean(0)
    assert found.between_seeds == pytest.approx(12 * rows.var(ddof=1))
    assert found.between_examples == pytest.approx(4 * columns.var(ddof=1))
    total = np.square(values - values.mean()).sum()
    parts = 3 * found.between_seeds + 11 * found.between_examples + 33 * found.rest
    assert parts == pytest.approx(total)
    assert found.of(4, 12)[2:] == pytest.approx(found[2:])


@pytest.mark.parametrize("right", [(5, 0), (9, 2), (30, 12), (400, 340), (7, 7)])
def test_one_seed_flipped_is_mcnemars_exact_test(right):
    totals = np.repeat([1, -1, 0], [*right, 20])
    assert flipped(totals) == pytest.approx(stats.binomtest(right[0], sum(right)).pvalue)


def test_flipped_is_every_flip_by_hand():
    totals = np.array([3, -1, 2, 2, 0, 5, -1, 3])
    sums = [abs(np.dot(signs, totals)) for signs in product((1, -1), repeat=len(totals))]
    assert flipped(totals) == pytest.approx(np.mean(np.array(sums) >= totals.sum()))


def simulated(rng, seeds, examples, gain):
    """Right or wrong of two ways whose seeds and examples are drawn, `gain` apart on average."""
    base = rng.uniform(0.2, 0.7, examples)
    favour = rng.uniform(-0.15, 0.15, examples)
    luck = rng.uniform(-0.05, 0.05, (2, seeds, 1))
    chance = base + np.array([0.0, gain])[:, None, None] + luck
    chance = chance + np.array([0, 1])[:, None, None] * favour
    return rng.uniform(size=(2, seeds, examples)) < chance


def test_the_interval_holds_the_truth_in_19_of_20_worlds():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(600):
        theirs, ours = simulated(rng, 4, 60, 0.08)
        tested, _ = paired(ours, theirs)
        found.append(abs(tested.mean - 0.08) <= tested.half)
    assert 0.93 <= np.mean(found) <= 0.99


def test_nothing_is_found_where_nothing_is_and_what_is_visible_is_found():
    rng = np.random.default_rng(1)
    alarms, seen = [], []
    for _ in range(400):
        theirs, ours = simulated(rng, 4, 60, 0.0)
        alarms.append(paired(ours, theirs)[0].p < 0.05)
    assert np.mean(alarms) <= 0.06
    visible = np.mean([paired(*simulated(rng, 4, 60, 0.0))[0].visible for _ in range(50)])
    for _ in range(300):
        theirs, ours = simulated(rng, 4, 60, visible)
        seen.append(paired(ours, theirs)[0].p < 0.05)
    assert 0.65 <= np.mean(seen) <= 0.95


def test_five_examples_prove_nothing():
    found, _ = paired(np.ones((5, 5)), np.zeros((5, 5)))
    assert found.mean == 1
    assert found.p > 0.05
    assert found.half > 0.3
    assert paired(np.ones((5, 50)), np.zeros((5, 50)))[0].p < 1e-6


def test_more_seeds_or_examples_show_smaller_differences():
    _, found = paired(*simulated(np.random.default_rng(2), 3, 40, 0.1))
    visible = [found.of(*size).tested(0).visible for size in ((3, 42), (30, 42), (30, 4200))]
    assert visible[0] == pytest.approx(found.tested(0).visible)
    assert visible[0] > visible[1] > visible[2]
