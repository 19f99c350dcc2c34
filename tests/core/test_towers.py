"""Towers compute what each of them computes alone, whatever is frozen, and know where a leaf is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import registry, trees
from tlx.backbones.functions import wrap_functions
from tlx.backbones.towers import Towers
from tlx.contracts.input import ports_of
from tlx.data.inputs import shared_inputs, trained_inputs
from tlx.data.vector_input import VectorInput
from tlx.errors import ConfigError, ContractError
from tlx.testing import toys
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.types import Tensors, Variables
from tlx.weights.matching import match

KEY = jax.random.key(0)


def dense(width=3):
    def init(rng, x):
        return {"kernel": jax.random.normal(rng, (x.shape[1], width))}

    def apply(params, x):
        return {"row": x @ params["kernel"]}

    return wrap_functions(init, apply, ("row",), VectorInput(5))


TOY, ROW = ToyBackbone(), dense()
BOTH = Towers((("image", TOY), ("row", ROW)))
X = {
    "image": np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32),
    "row": np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32),
}


@pytest.fixture(scope="module")
def variables():
    return quick_jit(BOTH.init)(KEY, X)


@pytest.mark.parametrize("mode", ["eval", "tune"])
def test_each_tower_says_what_it_says_alone(variables, mode):
    params, state = variables
    found, after = BOTH.apply(params, state, X, rng=KEY, mode=mode)
    for number, (name, tower) in enumerate(BOTH.towers):
        key = jax.random.fold_in(KEY, number)
        alone, _ = tower.apply(params[name], state[name], X[name], rng=key, mode=mode)
        for feature, value in alone.items():
            np.testing.assert_allclose(found[f"{name}/{feature}"], value, rtol=1e-6)
    joined = np.concatenate([found["image/pooled"], found["row/row"]], axis=1)
    np.testing.assert_array_equal(found["pooled"], joined)
    assert {spec.name: spec.channels for spec in BOTH.features}["pooled"] == joined.shape[1]
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_prefix_may_end_within_a_tower_or_between_two(variables, stop):
    assert BOTH.stages == ("image/stage1", "image/stage2", "row")
    params, state = variables
    wanted, _ = BOTH.apply(params, state, X, rng=KEY, mode="eval")
    carry, lower, state = BOTH.apply_stages(
        params, state, X, start=0, stop=stop, rng=KEY, mode="eval"
    )
    assert "pooled" not in lower
    _, upper, _ = BOTH.apply_stages(params, state, carry, start=stop, stop=3, rng=KEY, mode="eval")
    assert set(lower) & set(upper) == set()
    jax.tree.map(np.testing.assert_array_equal, {**lower, **upper}, dict(wanted))


def test_statistics_move_in_the_stages_that_run(variables):
    params, state = variables
    _, _, moved = BOTH.apply_stages(params, state, X, start=0, stop=1, rng=KEY, mode="train")
    there, before = trees.flat(moved), trees.flat(state)
    changed = {path.rsplit("/", 1)[0] for path in before if (there[path] != before[path]).any()}
    assert {path.split("/")[1] for path in changed} == {"stage1"}


def test_a_feature_that_is_no_vector_is_averaged_over_its_positions():
    def init(rng, x):
        return {"kernel": jnp.eye(5)}

    def apply(params, x):
        return {"steps": jnp.stack([x @ params["kernel"], 3 * x], 1)}

    steps = wrap_functions(init, apply, ("steps",), VectorInput(5))
    both = Towers((("a", ROW), ("b", steps)))
    x = {"a": X["row"], "b": X["row"]}
    params, state = both.init(KEY, x)
    found, _ = both.apply(params, state, x, rng=KEY, mode="eval")
    np.testing.assert_allclose(found["pooled"][:, 3:], 2 * X["row"], rtol=1e-6)


def test_leaves_know_their_tower(variables):
    for path in trees.flat(variables.params):
        assert BOTH.leaf(path).stage in BOTH.stages
    assert BOTH.leaf("row/kernel")[:3] == ("row", "kernel", -1)
    assert BOTH.leaf("image/stage2/conv/kernel").stage == "image/stage2"
    with pytest.raises(ContractError, match="no tower 'rows'; there are image, row"):
        BOTH.leaf("rows/kernel")


def test_a_file_of_one_tower_fills_that_tower_alone(variables):
    alone = quick_jit(TOY.init)(jax.random.key(5), X["image"])
    whole = Variables({"backbone": alone.params}, {"backbone": alone.state})
    tensors = Tensors({p: np.asarray(v) for p, v in trees.flat(whole).items()}, "a file")
    like = Variables({"backbone": variables.params}, {"backbone": variables.state})
    found, report = match(tensors, like, BOTH.dialects)
    jax.tree.map(np.testing.assert_array_equal, found.params["backbone"]["image"], alone.params)
    jax.tree.map(np.testing.assert_array_equal, found.state["backbone"]["image"], alone.state)
    assert [leaf.path for leaf in report.initialised] == ["params/backbone/row/kernel"]
    assert not report.skipped


@dataclass(frozen=True)
class File:
    """A file of weights that says how its network wants its values."""

    input: object

    def tensors(self):
        return Tensors({}, "a file")


def test_the_input_of_a_file_goes_to_the_port_of_its_kind():
    theirs = VectorInput(5, (1.0,) * 5, (2.0,) * 5)
    assert trained_inputs(BOTH, File(theirs)) == {"image": TOY.inputs, "row": theirs}
    two = Towers((("a", ROW), ("b", ROW)))
    assert trained_inputs(two, File(theirs)) == {"a": ROW.inputs, "b": ROW.inputs}


@pytest.mark.parametrize(
    ("towers", "why"),
    [
        ((("a", ROW),), "two or more names"),
        ((("a", ROW), ("a", TOY)), "each once"),
        ((("a/b", ROW), ("c", TOY)), "'a/b' is no name"),
        ((("pooled", ROW), ("c", TOY)), "'pooled' is no name"),
        ((("a", BOTH), ("c", TOY)), "'a' has several inputs, image, row"),
    ],
)
def test_towers_that_cannot_be_are_refused(towers, why):
    with pytest.raises(ContractError, match=why):
        Towers(towers)


def test_a_run_file_names_each_tower():
    toy = f"{toys.__file__}:ToyBackbone"
    both = {"a": toy, "b": {"name": toy, "width": 2}}
    built = registry.build("backbones", "towers", {"towers": both})
    assert [(name, tower.width) for name, tower in built.towers] == [("a", 4), ("b", 2)]
    both["b"]["widht"] = both["b"].pop("width")
    with pytest.raises(ConfigError, match=r"backbone\.towers\.b\.widht: unknown option.*'width'"):
        registry.build("backbones", "towers", {"towers": both})
    with pytest.raises(ConfigError, match=r"backbone\.towers\.b is 3; it has to be the name"):
        registry.build("backbones", "towers", {"towers": {"a": toy, "b": 3}})


def test_a_source_is_given_what_the_network_is_and_refused_where_it_wants_more():
    own = ports_of(BOTH.inputs)
    assert shared_inputs(ROW.inputs, own)[0].entry == "row"
    with pytest.raises(ConfigError, match="takes 'vector', of which there is none for the network"):
        shared_inputs(ROW.inputs, own[:1])
