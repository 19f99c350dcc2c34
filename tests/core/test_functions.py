"""Two plain functions as a Backbone: what they may ask for, and real runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_image import ImageInput

from tlx import trees
from tlx.backbones.functions import wrap_functions
from tlx.errors import ContractError
from tlx.testing import check
from tlx.testing.compiling import quick_jit
from tlx.testing.transfers import transfers
from tlx.types import FeatureSpec

KEY = jax.random.key(0)
INPUTS = ImageInput(size=(8, 8))


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def init(rng, x, width):
    kernel = jax.random.normal(rng, (3, 3, x.shape[-1], width)) / 5
    layer = {"kernel": kernel, "scale": jnp.ones(width), "bias": jnp.zeros(width)}
    return [layer], (jnp.zeros(width), jnp.ones(width))


def apply(params, state, x, rng, mode, dropout=0.25):
    """Batch norm and dropout, in lists and tuples."""
    (layer,), (mean, var) = params, state
    x = convolve(x, layer["kernel"])
    if mode == "train":
        old, (mean, var) = (mean, var), (x.mean((0, 1, 2)), x.var((0, 1, 2)))
        state = tuple(0.9 * a + 0.1 * b for a, b in zip(old, (mean, var), strict=True))
    x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["bias"])
    pooled = x.reshape(len(x), -1)
    if mode != "eval":
        kept = jax.random.bernoulli(rng, 1 - dropout, pooled.shape)
        pooled = jnp.where(kept, pooled / (1 - dropout), 0)
    return {"map": x, "pooled": pooled}, state


def net(dropout: float = 0.25):
    options = {"width": 8, "dropout": dropout}
    return wrap_functions(init, apply, ("map", "pooled"), INPUTS, options=options)


def linear_init(rng, x):
    return {"w": jax.random.normal(rng, (x.shape[1] * x.shape[2] * x.shape[3], 5))}


def linear(params, x):
    return x.reshape(len(x), -1) @ params["w"]


def plain():
    return wrap_functions(linear_init, linear, ("pooled",), INPUTS)


@pytest.mark.parametrize("reference", ["net", "plain"])
def test_conformance(reference):
    ran = check("backbones", f"{__file__}:{reference}")
    assert {"check_gradient", "check_tune_keeps_state"} <= set(ran)


def test_features_leaves_and_value():
    backbone = net()
    assert backbone.features == (
        FeatureSpec("map", "map", 8, 2),
        FeatureSpec("pooled", "vector", 128),
    )
    params, state = quick_jit(backbone.init)(KEY, jnp.zeros((1, 8, 8, 3)))
    assert set(trees.flat(params)) == {"0/kernel", "0/scale", "0/bias"}
    assert type(params["0"]) is dict
    assert set(trees.flat(state)) == {"0", "1"}
    assert backbone.leaf("0/bias")[:2] == ("all", "norm")
    assert backbone.leaf("0/kernel")[:2] == ("all", "kernel")
    assert backbone != net(dropout=0.5)


def test_every_mode_is_the_function_itself():
    backbone = net()
    x = jax.random.normal(KEY, (4, 8, 8, 3))
    params, state = quick_jit(backbone.init)(KEY, x)
    own = quick_jit(init, static_argnums=2)(KEY, x, 8)
    ours, theirs = (quick_jit(run, static_argnames="mode") for run in (backbone.apply, apply))
    for mode in ("train", "tune", "eval"):
        features, new = ours(params, state, x, rng=KEY, mode=mode)
        wanted, moved = theirs(*own, x, KEY, mode=mode)
        jax.tree.map(np.testing.assert_array_equal, dict(features), wanted)
        jax.tree.map(np.testing.assert_array_equal, [*new.values()], [*moved])


def test_what_cannot_be_given_is_a_sentence():
    def wrap(make, run, **more):
        return wrap_functions(make, run, ("pooled",), INPUTS, **more)

    with pytest.raises(ContractError, match=r"'linear_init' asks for 'key'.*rng, x and what"):
        wrap(_named(lambda key: 0, "linear_init"), linear)
    with pytest.raises(ContractError, match=r"asks for 'parms'\. Did you mean 'params'"):
        wrap(linear_init, lambda parms, x: 0)
    with pytest.raises(ContractError, match="asks for `state` but not for `mode`"):
        wrap(linear_init, lambda params, state, x: 0)
    with pytest.raises(ContractError, match="Neither function asks for the option 'width'"):
        wrap(linear_init, linear, options={"width": 8})
    with pytest.raises(ContractError, match="cannot run in mode 'tune'; it has eval, train"):
        wrap(linear_init, linear, modes=("train", "eval")).apply({}, {}, KEY, rng=KEY, mode="tune")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda params, x: x.missing, r"test_functions.py, line \d+\) cannot run in mode 'eval'"),
        (lambda params, x: params["v"], r"in mode 'eval' on pictures \(24, 8, 8, 3\): KeyError"),
        (lambda params, x: (x, x), "returns a tuple of 2 but has the features pooled"),
        (lambda params, x: x.sum(), r"'pooled' has shape \(\) for 24 examples"),
        (lambda params, x: x > 0, "'pooled' holds bool"),
        (lambda params, x, mode: x[:, :4] if mode == "train" else x, "but .* in mode 'eval'"),
        (
            lambda params, x, mode: 1 / 0 if mode == "tune" else x,
            r"mode 'tune'.*division by zero\.",
        ),
    ],
)
def test_what_does_not_run_is_told_when_it_is_wrapped(run, said):
    with pytest.raises(ContractError, match=said):
        wrap_functions(linear_init, run, ("pooled",), INPUTS)


def test_a_state_of_another_form_is_told_when_it_is_wrapped():
    def grows(params, state, x, mode):
        return x, (*state, x.mean()) if mode == "train" else state

    with pytest.raises(ContractError, match=r"another form .* 'train': '0' was not there and is"):
        wrap_functions(lambda rng, x: ({"w": rng}, ()), grows, ("map",), INPUTS)


def _named(function, name):
    function.__name__ = name
    return function


def test_real_runs_on_digits(tmp_path):
    results = transfers(f"{__file__}:net", tmp_path)
    assert results["feature-transfer"]["test"]["accuracy"] > 0.8
    assert results["l2-sp"]["test"]["accuracy"] > 0.8
