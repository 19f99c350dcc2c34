"""The axes of a sweep: what people write, and the points that come of it."""

import numpy as np
import pytest

from tlx.errors import ConfigError
from tlx.run_file.overrides import apply_sets
from tlx.studies.sweep_space import Axis, as_set, axes, axis, grid


def test_ranges_are_numpys():
    found = axis("divergence.0.weight=log:1e-4:1:8").values
    np.testing.assert_allclose(found, np.geomspace(1e-4, 1, 8), rtol=5e-4)
    np.testing.assert_allclose(axis("a=lin:-1:2:7").values, np.linspace(-1, 2, 7), rtol=5e-4)
    assert (found[0], found[-1]) == (1e-4, 1.0)
    assert axis("a=log:0.1:1:3").log
    assert not axis("a=lin:0.1:1:3").log


def test_values_are_toml_or_words():
    assert axis("strategy=finetune,feature_transfer").values == ("finetune", "feature_transfer")
    assert axis("a.b=0.1, .3,1e-3").values == (0.1, 0.3, 1e-3)
    assert axis("a=[[1, 2], [3]]").values == ([1, 2], [3])
    assert axis("a=true,false").values == (True, False)
    assert axis("path=/some/where:else").values == ("/some/where:else",)
    assert axis("a=0.001,0.1").log
    assert not axis("a=1,2,3").log


def test_a_range_without_a_count_is_for_a_sampler():
    assert axis("a=log:1e-4:1") == Axis("a", (), (1e-4, 1.0), True)


def test_a_grid_holds_every_combination_once():
    found = grid(axes(["a=1,2", "b=x,y,z"]))
    assert len({tuple(point.items()) for point in found}) == 6
    assert found[:2] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]


@pytest.mark.parametrize("value", [0.1, 1e-7, 3, True, "finetune", [0.1, 2], "a.b"])
def test_a_value_arrives_as_it_was(value):
    assert apply_sets({}, [as_set("strategy.option", value)])["strategy"]["option"] == value


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "needs what it goes over"),
        (["a"], "should look like KEY="),
        (["=1,2"], "should look like KEY="),
        (["a="], "should look like KEY="),
        (["a=log:1e-4"], "two numbers"),
        (["a=log:1:0.1:3"], "the lower one first"),
        (["a=lin:0:inf:3"], "two numbers"),
        (["a=log:0:1:3"], "above 0"),
        (["a=lin:0:1:1"], "at least 2"),
        (["a=lin:0:1:x"], "and a count"),
        (["a=1,1"], "twice"),
        (["a=1,2", "a=3"], "'a' twice"),
    ],
)
def test_what_is_no_axis_is_refused(texts, words):
    with pytest.raises(ConfigError, match=words):
        axes(texts)
