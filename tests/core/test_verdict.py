"""The verdict of an audit and its arms, on numbers whose meaning is known."""

import numpy as np
import pytest

from tlx.config import parse
from tlx.errors import ConfigError
from tlx.studies.audit_arms import arms, labels, rates, solved, warned, with_labels, with_seed
from tlx.studies.verdict import Arm, catching_up, judged


def arm(right, val):
    right = np.asarray(right, bool)
    return Arm([val] * len(right), right.mean(1), right)


def drawn(chance, seeds=4, examples=200, key=0):
    rng = np.random.default_rng(key)
    return rng.uniform(size=(seeds, examples)) < np.asarray(chance)


@pytest.mark.parametrize(
    ("better", "verdict", "words"),
    [
        (0.3, "helps", "The transfer helps by"),
        (-0.3, "hurts", "(negative transfer)"),
        (0.0, "no evidence", "would have been seen four times in five"),
    ],
)
def test_the_three_sentences(better, verdict, words):
    found = judged(
        {"scratch": arm(drawn(0.5), 0.5), "finetune": arm(drawn(0.5 + better, key=1), 0.6)},
        "accuracy", "max",
    )  # fmt: skip
    assert found["verdict"] == verdict
    assert words in found["text"]
    assert "the same 200 test examples" in found["text"]
    assert found["advice"]


def test_validation_chooses_the_arm_that_is_compared():
    scratch, good, lucky = drawn(0.5), drawn(0.9, key=1), drawn(0.99, key=2)
    table = {"scratch": arm(scratch, 0.9), "a": arm(good, 0.8), "b": arm(lucky, 0.7)}
    assert judged(table, "accuracy", "max")["best"] == "a"


def test_an_error_is_better_where_it_is_lower_and_seeds_alone_are_compared():
    table = {
        "scratch": Arm([2.0] * 4, [2.0, 2.1, 1.9, 2.0], None),
        "finetune": Arm([1.0] * 4, [1.0, 1.1, 1.0, 0.9], None),
    }
    found = judged(table, "mae", "min")
    assert found["verdict"] == "helps"
    assert found["gain"] == pytest.approx(1.0)
    assert "of mae" in found["text"]


def test_how_many_more_seeds_would_decide_it_follows_from_the_spread():
    rng = np.random.default_rng(3)
    luck = np.array([-0.1, 0.12, 0.0])[:, None]
    base = rng.uniform(0.3, 0.6, 3000)
    table = {
        "scratch": arm(rng.uniform(size=(3, 3000)) < base, 0.5),
        "finetune": arm(rng.uniform(size=(3, 3000)) < base + 0.07 + luck, 0.6),
    }
    found = judged(table, "accuracy", "max")
    assert found["verdict"] == "no evidence"
    count = int(found["advice"][0].split("--seeds ")[1].rstrip(")."))
    spread = found["gain"] / 0.1102  # the standard deviation of luck is 0.11
    by_hand = (2.3 + 0.9) ** 2 / spread**2
    assert count == pytest.approx(by_hand, rel=0.35)


def test_scratch_catches_up_where_the_transfer_helps_no_more():
    def said(*verdicts):
        return catching_up(list(zip((10, 50, "all"), verdicts, strict=True)))

    assert said("helps", "helps", "no evidence")[0] == "all"
    assert said("helps", "hurts", "no evidence")[0] == 50
    assert said("no evidence", "helps", "no evidence")[0] == "all"
    assert said("helps", "helps", "helps") == (None, "With all labels scratch has not caught up.")
    assert "At no label count" in said("hurts", "no evidence", "hurts")[1]


RUN = {"name": "r", "data": "digits", "backbone": "resnet20", "weights": "resnet20-cifar10"}


def test_the_arms_of_runs():
    assert list(arms(parse(RUN))) == ["scratch", "feature_transfer", "finetune"]
    strategy = {"name": "finetune", "backbone_lr": 0.3}
    found = arms(parse({**RUN, "strategy": strategy}))
    assert found["finetune"].strategy.options == {"backbone_lr": 0.3}
    assert found["scratch"].strategy.options == {}
    assert found["scratch"].weights is None
    term = [{"name": "l2_sp", "weight": 0.1}]
    found = arms(parse({**RUN, "strategy": "lora", "divergence": term}))
    assert list(found)[3:] == ["finetune-l2_sp", "lora-l2_sp"]
    assert not found["finetune"].divergence
    assert found["lora-l2_sp"] == parse({**RUN, "strategy": "lora", "divergence": term})


def test_feature_transfer_is_the_exact_head():
    """A head trained at the rate of fine-tuning says nothing of the source's features."""
    table = {**RUN, "augmentation": "light", "data": {"name": "digits", "sampling": "balanced"}}
    found = arms(parse(table))["feature_transfer"]
    assert solved(found)
    assert (found.augmentation, found.data.sampling) == ((), "natural"), "it has no use for them"
    assert not solved(arms(parse(RUN))["finetune"])
    own = {**RUN, "strategy": {"name": "feature_transfer", "solver": "steps"}}
    assert not solved(arms(parse(own))["feature_transfer"]), "where the run says how, it is asked"


def test_too_few_seeds_are_said_before_they_are_trained():
    assert "12.7 standard errors" in warned(2)
    assert "4.3 standard errors" in warned(3)
    assert warned(5) == ""


@pytest.mark.parametrize(("better", "named"), [(0.3, "finetune"), (-0.3, "scratch")])
def test_advice_names_what_was_measured(better, named):
    table = {"scratch": arm(drawn(0.5), 0.5), "finetune": arm(drawn(0.5 + better, key=1), 0.6)}
    (advice,) = judged(table, "accuracy", "max")["advice"]
    value = 100 * np.mean(table[named].test)
    assert f"take {named} ({value:.1f} %" in advice
    assert "backbone_lr" not in advice, "nobody has tried it"


def test_rates_lie_around_the_runs_own():
    config = parse({**RUN, "optimizer": {"learning_rate": 0.01}})
    assert rates(config, 1) == (0.01,)
    assert rates(config, 5) == (0.01, 0.00316, 0.0316, 0.001, 0.1)


def test_labels_and_seeds():
    assert labels("50,all,10") == (10, 50, "all")
    for wrong in ("", "0", "ten", "10;20"):
        with pytest.raises(ConfigError, match="should look like"):
            labels(wrong)
    shots = parse({**RUN, "data": {"name": "digits", "shots": 5}})
    assert with_labels(shots, 2).data.shots == 2
    assert with_labels(shots, "all").data.shots is None
    assert with_labels(parse(RUN), 2).data.limit == 2
    assert with_seed(shots, 3, False) == parse(
        {**RUN, "seed": 3, "data": {"name": "digits", "shots": 5}}
    )
    assert with_seed(shots, 3, True).data.split_seed == 3
