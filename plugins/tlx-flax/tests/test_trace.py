"""Outputs of all layers, against what Flax itself captures."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from tlx_flax.linen_backbone import wrap_linen
from tlx_flax.nnx_backbone import wrap_nnx
from tlx_image import ImageInput

from tlx.protocols import Traced

INPUTS = ImageInput(size=(8, 8))
KEY = jax.random.key(0)
X = jax.random.normal(KEY, (2, 8, 8, 3))


class Base(nnx.Module):
    """A block whose call is inherited below."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.dense(x))


class Block(Base):
    pass


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Base(rngs)])

    def __call__(self, x):
        x = self.drop(self.norm(self.conv(x)))
        for block in reversed(self.blocks):  # order is that of running, not of naming
            x = block(x)
        return x.mean((1, 2))


def test_every_nnx_layer_in_the_order_of_running():
    backbone = wrap_nnx(Net, ("pooled",), INPUTS)
    assert isinstance(backbone, Traced)
    params, state = backbone.init(KEY, X)
    found = backbone.trace(params, state, X)
    assert list(found) == [
        "conv", "norm", "drop", "blocks/1/dense", "blocks/1", "blocks/0/dense", "blocks/0",
    ]  # fmt: skip
    module = Net(nnx.Rngs(0))
    for path, variable in nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat))):
        tree = params if isinstance(variable, nnx.Param) else state
        for key in path:
            tree = tree[str(key)]
        variable.set_value(tree)
    module.eval()
    _, captured = nnx.capture(module, nnx.Intermediate, method_outputs=nnx.Intermediate)(X)
    for path in ("conv", "norm", "blocks/1/dense", "blocks/0/dense", "blocks/1"):
        node = captured
        for key in path.split("/"):
            node = node[int(key) if key.isdigit() else key]
        np.testing.assert_allclose(found[path], node["__call__"].get_value()[0], atol=1e-6)
    features, _ = backbone.apply(params, state, X, rng=KEY, mode="eval")
    np.testing.assert_allclose(found["blocks/0"].mean((1, 2)), features["pooled"], atol=1e-6)


def test_tracing_leaves_no_trace():
    backbone = wrap_nnx(Net, ("pooled",), INPUTS)
    params, state = backbone.init(KEY, X)
    before = {kind: vars(kind).get("__call__") for kind in (Net, Base, Block, nnx.Conv)}
    jitted = jax.jit(backbone.trace)(params, state, X)
    np.testing.assert_allclose(
        jitted["blocks/0"], backbone.trace(params, state, X)["blocks/0"], atol=1e-6
    )
    assert before == {kind: vars(kind).get("__call__") for kind in before}


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        x = linen.Conv(4, (3, 3), name="conv")(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return LinenBlock(name="block")(linen.Dropout(0.5, deterministic=not train)(x))


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.relu(linen.Dense(4, name="dense")(x)).mean((1, 2))


def test_every_linen_layer_in_the_order_of_running():
    backbone = wrap_linen(LinenNet(), ("pooled",), INPUTS)
    assert isinstance(backbone, Traced)
    params, state = backbone.init(KEY, X)
    found = backbone.trace(params, state, X)
    assert list(found) == ["conv", "norm", "Dropout_0", "block/dense", "block"]
    _, captured = LinenNet().apply(
        {"params": params, **state}, X, train=False, capture_intermediates=True,
        mutable=["intermediates"],
    )  # fmt: skip
    outputs = captured["intermediates"]
    np.testing.assert_array_equal(found["norm"], outputs["norm"]["__call__"][0])
    np.testing.assert_array_equal(found["block/dense"], outputs["block"]["dense"]["__call__"][0])
    features, _ = backbone.apply(params, state, X, rng=KEY, mode="eval")
    np.testing.assert_array_equal(found["block"], features["pooled"])
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), found))
