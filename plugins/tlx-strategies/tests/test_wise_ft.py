"""WiSE-FT: the line from the source to the fine-tuned weights, as the authors' code walks it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies.finetune import Finetune
from tlx_strategies.wise_ft import ALPHAS, WiseFT, wise_ft

import tlx
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Finishes, Strategy
from tlx.testing import toys
from tlx.testing.world import world
from tlx.trees import flat
from tlx.types import Variables
from tlx.weights.statistics import recomputed

KEY = jax.random.key(0)
HERE = world(8)
START, END = HERE.source, HERE.variables


def finished(strategy, score=None, model=HERE.model, end=END):
    def no_score(variables):
        raise AssertionError("nothing is left to choose")

    return strategy.finish(
        model=model,
        start=START,
        variables=end,
        batches=lambda: [HERE.batch],
        score=score or no_score,
    ).variables


def walked(alpha, part):
    """theta = {key: (1-alpha) * theta_0[key] + alpha * theta_1[key]} in float64."""
    then, now = flat(START.params[part]), flat(END.params[part])
    return {
        key: (1 - alpha) * np.asarray(then[key], np.float64) + alpha * np.asarray(now[key])
        for key in then
    }


def alike(params, expected):
    for path, leaf in flat(params).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-5, atol=1e-7, err_msg=path)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5])
def test_the_backbone_is_on_the_line_and_the_head_stays(alpha):
    params, state = finished(wise_ft(alpha=alpha))
    alike(params["backbone"], walked(alpha, "backbone"))
    jax.tree.map(np.testing.assert_array_equal, params["head"], END.params["head"])
    fresh = recomputed(HERE.model, Variables(params, END.state), [HERE.batch]).state
    jax.tree.map(np.testing.assert_array_equal, state, fresh)
    assert (np.asarray(state["backbone"]["stage1"]["mean"]) != 0).all()


def test_a_head_that_was_kept_may_come_along():
    params, _ = finished(wise_ft(alpha=0.25, head=True))
    alike(params["head"], walked(0.25, "head"))


def test_all_the_way_is_the_trained_model_itself():
    assert finished(wise_ft(alpha=1.0)) is END


def test_what_did_not_move_stays_to_the_last_bit():
    """Frozen stages, and what belongs to a divergence."""
    params = dict(END.params)
    params["backbone"] = {**params["backbone"], "stage1": START.params["backbone"]["stage1"]}
    params["divergence/x"] = {"w": jnp.ones(2)}
    found = finished(wise_ft(alpha=0.3), end=Variables(params, END.state)).params
    for path, leaf in flat(found).items():
        if "stage1" in path or "divergence" in path:
            np.testing.assert_array_equal(leaf, flat(params)[path])


@pytest.mark.parametrize("best", [0.0, 0.4, 0.5, 1.0])
def test_validation_chooses(best):
    """The score falls with the distance from one point of the line."""
    assert ALPHAS == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    goal, asked = walked(best, "backbone"), []

    def score(variables):
        leaves = flat(variables.params["backbone"])
        asked.append(-sum(float(np.abs(leaf - goal[key]).sum()) for key, leaf in leaves.items()))
        return asked[-1]

    alike(finished(wise_ft(), score).params["backbone"], goal)
    assert len(asked) == 11


def test_of_equals_the_middle():
    alike(finished(wise_ft(), lambda variables: 1.0).params["backbone"], walked(0.5, "backbone"))


def test_without_a_head():
    bare = Model(HERE.model.backbone, None, HERE.model.inputs)
    end = Variables(*({"backbone": tree["backbone"]} for tree in END))
    found = finished(WiseFT(Finetune(), (0.5,), head=True), model=bare, end=end)
    alike(found.params["backbone"], walked(0.5, "backbone"))


def test_training_is_the_inner_strategys():
    strategy = wise_ft("finetune", {"backbone_lr": 0.1, "frozen": ["stage1"]})
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, Finishes)
    inner = Finetune(backbone_lr=0.1, frozen=("stage1",))
    assert strategy == WiseFT(inner)
    assert strategy.phases(HERE.model, 3) == inner.phases(HERE.model, 3)
    assert strategy.init(KEY, HERE.model, HERE.batch) == Variables({}, {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 1.5}, "alpha is the share"),
        ({"of": "lora"}, "cannot follow 'lora', which learns a difference"),
        ({"of": "wise_ft"}, "cannot follow 'wise_ft', which has a last step"),
        ({"of": "distill", "of_options": {"teacher": "x"}}, "which brings divergences along"),
        ({"of_options": {"backbone_rl": 1}}, r"of_options\.backbone_rl: .* 'backbone_lr'"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(ConfigError, match=said):
        wise_ft(**options)


def test_a_run_is_never_worse_on_validation_than_its_training(tmp_path):
    table = {
        "name": "digits",
        "steps": 20,
        "batch_size": 50,
        "data": {"name": "digits", "shots": 10, "val": 100, "test": 100},
        "backbone": f"{Path(toys.__file__)}:ToyBackbone",
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "sink": [],
    }
    plain = tlx.run({**table, "strategy": "finetune"}, out=tmp_path / "plain")
    strategy = {"name": "wise_ft", "of": "finetune"}
    wise = tlx.run({**table, "strategy": strategy}, out=tmp_path / "wise")
    assert wise["val"]["accuracy"] >= plain["val"]["accuracy"] > 0.2
