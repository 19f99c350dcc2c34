"""Greedy soup: recipe 1 of the paper as a loop over numbers, and runs on digits."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tlx_strategies import greedy_soup as soups
from tlx_strategies.finetune import Finetune
from tlx_strategies.greedy_soup import GreedySoup, average, greedy_soup

import tlx
from tlx.errors import ConfigError, WeightsError
from tlx.protocols import Finishes, Strategy
from tlx.testing import toys
from tlx.testing.world import world
from tlx.trees import flat
from tlx.types import Variables, unlabelled
from tlx.weights.statistics import recomputed

KEY = jax.random.key(0)
HERE = world(8)
BACKBONE = f"{Path(toys.__file__)}:ToyBackbone"


def numbered(x):
    """Variables that are one point of the plane."""
    return Variables({"backbone": {"x": np.asarray(x, np.float64)}}, {"backbone": {}})


def recipe_1(points, score):
    """Algorithm 1 of arXiv:2203.05482, word for word."""
    points = sorted(points, key=score, reverse=True)
    ingredients = []
    for point in points:
        before = score(np.mean(ingredients, 0)) if ingredients else -np.inf
        if score(np.mean([*ingredients, point], 0)) >= before:
            ingredients.append(point)
    return np.mean(ingredients, 0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6, unique=True)
)
def test_as_the_recipe_has_it(points):
    """The score falls with the distance from the origin, and has few values, so that many are
    equal."""

    def score(point):
        return -float(np.round(np.hypot(*point)))

    def of_variables(variables):
        return score(variables.params["backbone"]["x"])

    others = {str(number): numbered(point) for number, point in enumerate(points)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soups, "_ingredient", lambda run, model, variables, _: others[run])
        found = (
            GreedySoup(Finetune(), tuple(others)[1:])
            .finish(
                model=HERE.model,
                start=others["0"],
                variables=others["0"],
                batches=list,
                score=of_variables,
            )
            .variables
        )
    np.testing.assert_allclose(
        found.params["backbone"]["x"], recipe_1(points, score), rtol=1e-12, atol=1e-12
    )


def test_an_average_is_the_mean_of_backbone_and_head():
    first, second = HERE.variables, HERE.source
    own = {**first.params, "strategy": {"w": np.ones(2)}}
    mixed = average([Variables(own, first.state), second, second])
    for path, leaf in flat(mixed.params).items():
        one = flat(own)[path]
        if path.startswith("strategy/"):
            np.testing.assert_array_equal(leaf, one)
            continue
        other = np.asarray(flat(second.params)[path], np.float64)
        np.testing.assert_allclose(leaf, (one + 2 * other) / 3, rtol=1e-5, atol=1e-7)
    assert mixed.state is first.state


def test_training_is_the_inner_strategys():
    strategy = greedy_soup(("a", "b"), "finetune", {"backbone_lr": 0.1})
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, Finishes)
    assert strategy == GreedySoup(Finetune(backbone_lr=0.1), ("a", "b"))
    assert strategy.phases(HERE.model, 3) == Finetune(backbone_lr=0.1).phases(HERE.model, 3)
    assert strategy.init(KEY, HERE.model, HERE.batch) == Variables({}, {})


def test_refusals():
    with pytest.raises(ConfigError, match="'greedy_soup' cannot follow 'lora'"):
        greedy_soup(("a",), "lora")
    with pytest.raises(WeightsError, match="no folder"):
        soups._ingredient("runs/none", HERE.model, HERE.variables)


class Runs(NamedTuple):
    folder: Path
    table: dict
    results: dict


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A source, two fine-tunings of it, one of another width and one of other classes."""
    folder = tmp_path_factory.mktemp("runs")
    table = {
        "name": "digits",
        "steps": 20,
        "batch_size": 50,
        "data": {"name": "digits", "shots": 10, "val": 100, "test": 100},
        "backbone": BACKBONE,
        "strategy": "finetune",
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "sink": [],
    }
    tlx.run({**table, "steps": 40, "data": "digits"}, out=folder / "source")
    table["weights"] = {"name": f"run:{folder / 'source'}", "head": "keep"}
    for name, rate in (("low", 0.005), ("high", 0.03)):
        tuned = {**table, "optimizer": {"name": "adam", "learning_rate": rate}}
        tlx.run(tuned, out=folder / name)
    wide = {**table, "backbone": {"name": BACKBONE, "width": 3}, "steps": 1}
    del wide["weights"]
    tlx.run(wide, out=folder / "wide")
    plain = tlx.run({**table, "seed": 1}, out=folder / "plain")
    return Runs(folder, table, {"plain": plain})


@pytest.mark.slow
def test_a_soup_of_runs_is_at_least_as_good_as_each_of_them(runs):
    names = [str(runs.folder / name) for name in ("low", "high")]
    strategy = {"name": "greedy_soup", "runs": names}
    soup = tlx.run({**runs.table, "seed": 1, "strategy": strategy}, out=runs.folder / "soup")
    alone = runs.results["plain"]["val"]["accuracy"]
    assert soup["val"]["accuracy"] >= alone > 0.2
    alone = tlx.run({**runs.table, "seed": 1, "strategy": {**strategy, "runs": []}},
                    out=runs.folder / "alone")  # fmt: skip
    assert alone["val"] == runs.results["plain"]["val"]


def test_a_model_in_the_soup_keeps_its_numbers(runs):
    """What is averaged is what the run saved; an average has statistics of its own."""
    low, high = (tlx.load(runs.folder / name) for name in ("low", "high"))
    model = low.model
    taken = soups._ingredient(str(runs.folder / "high"), model, low.variables)
    jax.tree.map(np.testing.assert_array_equal, taken, high.variables)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    batches = [unlabelled({"image": image})]
    scores = iter([0.5, 0.4, 0.6])
    found = (
        GreedySoup(Finetune(), (str(runs.folder / "high"),))
        .finish(
            model=model,
            start=low.variables,
            variables=low.variables,
            batches=lambda: batches,
            score=lambda variables: next(scores),
        )
        .variables
    )
    expected = recomputed(model, average([low.variables, high.variables]), batches)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_another_network_has_no_part_in_it(runs):
    low = tlx.load(runs.folder / "low")
    with pytest.raises(WeightsError, match=r"the backbone of .*wide is ToyBackbone\(width=3"):
        soups._ingredient(str(runs.folder / "wide"), low.model, low.variables)
    other = {**low.variables.params, "head": {"kernel": np.zeros((8, 4))}}
    with pytest.raises(WeightsError, match="only one of the two has a leaf 'params/head/"):
        soups._ingredient(
            str(runs.folder / "high"), low.model, Variables(other, low.variables.state)
        )
