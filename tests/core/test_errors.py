"""Hints for a mistyped name: the nearest one, and none where nothing is near."""

import pytest

from tlx.errors import did_you_mean

RESNETS = ("resnet2", "resnet200", "resnet26", "resnet20", "resnet32", "wide_resnet20_2")
WORDS = ("seed", "name", "steps", "epochs", "learning_rate", "feature_transfer", "parameters")


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("resnet2O", RESNETS, "resnet20"),  # a letter for a digit
        ("resnetZ0", RESNETS, "resnet20"),
        ("ersnet26", RESNETS, "resnet26"),  # neighbours in each other's place
        ("Resnet32", RESNETS, "resnet32"),
        ("resnet3", ("resnet8", "resnet32"), "resnet32"),  # begun like it
        ("step", ("stem", "steps"), "steps"),
        ("epoch", WORDS, "epochs"),
        ("lr", WORDS, "learning_rate"),
        ("params", WORDS, "parameters"),
        ("transfer", WORDS, "feature_transfer"),
        ("alfa", ("alpha", "beta"), "alpha"),
        ("l2-sp", ("l2_sp", "l2"), "l2_sp"),
    ],
)
def test_the_nearest_name_is_offered(typed, known, meant):
    assert did_you_mean(typed, known) == f" Did you mean {meant!r}?"
    assert did_you_mean(typed, reversed(known)) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize("typed", ["nonsense", "banana", "test", "x", "", "densenet", "rate of it"])
def test_where_nothing_is_near_nothing_is_said(typed):
    assert did_you_mean(typed, WORDS) == ""
