"""What the axes of parameters mean, by what plain functions do with them."""

import jax
import jax.numpy as jnp
import pytest
from tlx_image import ImageInput

from tlx.backbones.axes import uses
from tlx.backbones.functions import wrap_functions
from tlx.errors import ContractError

X = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
CONV = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=CONV, feature_group_count=groups
    )


def scanned(w, x):
    return jax.lax.scan(lambda c, layer: (jnp.tanh(c @ layer), None), x, w)[0]


def scanned_behind(w, x):
    return scanned(jnp.moveaxis(w, 1, 0), x)


def indexed(w, x):
    for n in range(4):
        x = jnp.tanh(x @ w[n])
    return x


def shared(w, x):
    """Tied: the same matrix both ways."""
    return x @ w @ w.T


def branched(w, x):
    return jax.lax.platform_dependent(x, cpu=lambda x: jnp.dot(x, w), default=lambda x: x @ w)


def by_layer(w, x):
    return jax.vmap(jnp.matmul)(jnp.stack([x] * 4), w)


def convolved_by_layer(w, x):
    return jax.vmap(conv)(jnp.stack([x] * 4), w)


def standardised(w, x):
    return conv(x, (w - w.mean((0, 1, 2))) / (w.std((0, 1, 2)) + 1e-5))


@pytest.mark.parametrize(
    ("function", "shape", "layers", "out"),
    [
        (lambda w, x: x @ w, (3, 5), (), -1),
        (lambda w, x: x @ w.T, (5, 3), (), 0),
        (conv, (3, 3, 3, 5), (), -1),
        (lambda w, x: conv(x, w.transpose(2, 3, 1, 0)), (5, 3, 3, 3), (), 0),
        (lambda w, x: conv(x, w, 3), (3, 3, 1, 3), (), -1),
        (lambda w, x: jnp.einsum("bhwc,cnd->bhwnd", x, w), (3, 2, 4), (), (1, 2)),
        (lambda w, x: jnp.einsum("bhwc,hwcd->bd", x, w), (6, 6, 3, 5), (), -1),
        (lambda w, x: x.reshape(len(x), -1) @ w.reshape(-1, 5), (6, 6, 3, 5), (), -1),
        (scanned, (4, 3, 3), (0,), -1),
        (scanned_behind, (3, 4, 3), (1,), -1),
        (indexed, (4, 3, 3), (0,), -1),
        (by_layer, (4, 3, 5), (0,), -1),
        (convolved_by_layer, (4, 3, 3, 3, 5), (0,), -1),
        (standardised, (3, 3, 3, 5), (), -1),
        (branched, (3, 5), (), -1),
        (jax.checkpoint(scanned), (4, 3, 3), (0,), -1),
        (shared, (3, 5), (), -1),  # both ways: the usual one
    ],
)
def test_what_axes_of_a_kernel_mean(function, shape, layers, out):
    if function is conv:
        function = lambda w, x: conv(x, w)  # noqa: E731
    found = leaf(shape, function)
    assert (found.kind, found.layers, found.out) == ("kernel", layers, out)


def leaf(shape, function, **more):
    """The leaf `w` of a network that does this with it, and a kernel beside it."""

    def init(rng, x):
        return {"w": jnp.zeros(shape), "last": jnp.ones((3, 2))}

    def apply(params, x):
        y = function(params["w"], x)
        return jnp.stack([y.mean(), (x @ params["last"]).mean()])[None] * x.sum((1, 2, 3))[:, None]

    return wrap_functions(init, apply, ("pooled",), ImageInput(size=(6, 6)), **more).leaf("w")


@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((1, 6, 6, 3), lambda w, x: x + w),
        ((36, 3), lambda w, x: x.reshape(-1, 36, 3) + w),
        ((1, 6, 3), lambda w, x: jnp.concatenate([x[:, 0], jnp.tile(w, (len(x), 1, 1))], 1)),
        ((5, 3), lambda w, x: w[(x[:, 0, 0, 0] > 0).astype(int)]),
    ],
)
def test_what_is_put_beside_features_is_an_embedding(shape, function):
    assert leaf(shape, function).kind == "embedding"


def test_what_cannot_be_seen_can_be_said():
    def odd(w, x):
        return (x[..., None] * w.sum(0)).sum(-2)

    assert leaf((4, 3, 5), odd).out is None
    said = leaf((4, 3, 5), odd, leaves={"w": {"layers": 0, "out": -1}})
    assert (said.layers, said.out) == ((0,), -1)
    assert leaf((4, 3, 5), odd, leaves={"*": {"kind": "embedding"}}).kind == "embedding"
    with pytest.raises(ContractError, match=r"leaves\['v\*'\] fits no parameter.*has last, w"):
        leaf((4, 3, 5), odd, leaves={"v*": {"layers": 0}})
    with pytest.raises(ContractError, match=r"kind = 'embeddings'\. Did you mean 'embedding'"):
        leaf((4, 3, 5), odd, leaves={"w": {"kind": "embeddings"}})
    with pytest.raises(ContractError, match=r"layer = 0\. Did you mean 'layers'"):
        leaf((4, 3, 5), odd, leaves={"w": {"layer": 0}})


def test_nothing_is_computed():
    shape = jax.ShapeDtypeStruct((10**6, 10**6), jnp.float32)
    (found,) = uses(lambda w, x: x @ w, shape, jax.ShapeDtypeStruct((1, 10**6), jnp.float32))
    assert [(use.ins, use.outs) for use in found] == [({0}, {1})]
