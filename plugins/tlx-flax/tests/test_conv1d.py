"""The network over sequences: padding changes nothing, and one-dimensional kernels are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_flax.conv1d import Conv1d, as_product, conv1d, convolution
from tlx_flax.nnx_backbone import wrap_nnx

from tlx import trees
from tlx.errors import ConfigError
from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)


def run(backbone, texts, length):
    own = backbone.inputs.__class__("ACGT", length)
    encoded = [own.encode(text, name="It") for text in texts]
    x = own.prepare(jax.tree.map(lambda *leaves: jnp.stack(leaves), *encoded))
    variables = quick_jit(backbone.init)(KEY, x)
    return backbone.apply(*variables, x, rng=KEY, mode="eval")[0], variables


def test_padding_changes_nothing():
    backbone = conv1d("ACGT", width=4, stages=3, kernel=5)
    texts = ["GATTACA", "ACG", "A"]
    near, _ = run(backbone, texts, 7)
    far, _ = run(backbone, texts, 40)
    np.testing.assert_allclose(near["pooled"], far["pooled"], atol=1e-6)
    for name in ("stage1", "stage2", "stage3"):
        steps = near[name].shape[1]
        np.testing.assert_allclose(near[name], far[name][:, :steps], atol=1e-6)
        assert not far[name][:, steps:].any()


def test_features_have_the_declared_form():
    backbone = conv1d("ACGT", width=4, stages=3, kernel=5)
    found, _ = run(backbone, ["GATTACA"], 13)
    steps = {"stage1": 7, "stage2": 4, "stage3": 2}
    for spec in backbone.features:
        shape = (1, steps[spec.name], spec.channels) if spec.kind == "tokens" else (1, 16)
        assert found[spec.name].shape == shape


def test_the_first_layer_is_a_convolution_over_steps():
    """Against NumPy's correlation, of one channel."""
    backbone = conv1d(channels=1, width=1, stages=1, kernel=3)
    x = {"values": jnp.arange(8.0).reshape(1, 8, 1), "mask": jnp.ones((1, 8), bool)}
    params, state = quick_jit(backbone.init)(KEY, x)
    kernel = params["stage1"]["conv"]["kernel"]
    trace = backbone.trace(params, state, x)
    wanted = np.correlate(np.arange(8.0), np.asarray(kernel).ravel(), "same")
    np.testing.assert_allclose(trace["stage1/conv"].ravel(), wanted, rtol=1e-5)


@pytest.mark.parametrize(("steps", "size"), [(13, 5), (2, 9), (7, 1)])
def test_a_convolution_as_a_product_is_the_same(steps, size):
    x = jax.random.normal(KEY, (3, steps, 4))
    kernel = jax.random.normal(jax.random.key(1), (size, 4, 6))
    one, other = (
        jax.value_and_grad(lambda x, k, f=f: (f(x, k) ** 2).sum(), argnums=(0, 1))(x, kernel)
        for f in (as_product, convolution)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, other)


def test_kernels_over_steps_have_their_outputs_last():
    """As the network's program shows it, and as its names say."""
    backbone = conv1d("ACGT", width=4, stages=2, kernel=5)
    options = {"cin": 4, "width": 4, "stages": 2, "kernel": 5, "pool": "mean"}
    traced = wrap_nnx(
        Conv1d, ("stage1", "stage2", "pooled"), backbone.inputs, options=options,
        stages=("stage1", "stage2"),
    )  # fmt: skip
    assert traced.features == backbone.features
    for path in trees.flat(jax.eval_shape(backbone.init, KEY, None).params):
        assert traced.leaf(path) == backbone.leaf(path)
    assert backbone.leaf("stage1/conv/kernel") == ("stage1", "kernel", -1, ())
    assert backbone.leaf("stage2/norm/scale").kind == "norm"


def test_all_steps_in_place_of_their_mean():
    backbone = conv1d("ACGT", length=13, width=4, stages=2, kernel=5, pool="steps")
    found, _ = run(backbone, ["GATTACA", "ACGTACGTACGTA"], 13)
    np.testing.assert_array_equal(found["pooled"], found["stage2"].reshape(2, 4 * 8))
    assert backbone.features[-1].channels == 4 * 8


@pytest.mark.parametrize(
    "options", [{"pool": "steps"}, {"kernel": 4}, {"width": 0}, {"stages": 0}, {"channels": 0}]
)
def test_a_network_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigError, match="conv1d"):
        conv1d(**options)
