"""LoRA: the merged kernel against PyTorch's two convolutions, and what moves."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from tlx_image import ImageInput
from tlx_strategies.kernels import Kernel, added, beside
from tlx_strategies.lora import LoRA, own_rank, product

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Reparametrises, Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world
from tlx.trees import flat
from tlx.types import FeatureSpec, LeafInfo, Variables

KEY = jax.random.key(0)
HERE = world(8)
RNG = np.random.default_rng(0)
PRECISE = {"precision": lax.Precision.HIGHEST}


@dataclass(frozen=True)
class Bare:
    """A backbone of kernels that are given: name, shape, axes of the outputs, and of layers where
    there are any."""

    shapes: tuple[tuple[Any, ...], ...]
    kinds: tuple[tuple[str, str], ...] = field(default=())

    inputs = ImageInput()
    features = (FeatureSpec("pooled", "vector", 3),)
    modes = frozenset({"train", "tune", "eval"})

    def leaf(self, path):
        axes = next(axes for name, _, *axes in self.shapes if name == path)
        return LeafInfo("all", dict(self.kinds).get(path, "kernel"), *axes)

    def init(self, rng, x):
        params: dict[str, Any] = {}
        for name, shape, *_ in self.shapes:
            node, (*above, last) = params, name.split("/")
            for key in above:
                node = node.setdefault(key, {})
            node[last] = jnp.asarray(RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), "f4")
        return Variables(params, {})

    def apply(self, params, state, x, *, rng, mode):
        return {"pooled": x.mean((1, 2))}, state


def learnt(strategy, shape, out=-1):
    """A kernel, its factors with B no longer 0, and the merged kernel."""
    model = Model(Bare((("layer/kernel", shape, out),)), None, ImageInput())
    params, _ = model.init(KEY, HERE.batch)
    own = strategy.init(KEY, model, HERE.batch).params
    factors = own["layer"]["kernel"]
    np.testing.assert_array_equal(factors["B"], np.zeros_like(factors["B"]))
    factors["B"] = jnp.asarray(RNG.normal(size=factors["B"].shape), "f4")
    whole = strategy.effective({**params, "strategy": own})["backbone"]["layer"]["kernel"]
    return params["backbone"]["layer"]["kernel"], factors, whole


def matrices(factors, out=-2):
    """A (...,r) and B (r,m) of a kernel whose outputs are the axis `out` of A."""
    a, b = (np.asarray(factors[name]) for name in "AB")
    return a.squeeze(out), b.reshape(-1, b.shape[-1]).T


def in_pytorch(x, kernel, factors, scale, groups, **how):
    """x (B,H,W,C); kernels HWIO. W * x + scale * B * (A * x), A for every group by itself."""

    def tensor(array, *axes):
        return torch.from_numpy(np.array(array)).permute(*axes)

    picture = tensor(x, 0, 3, 1, 2)
    a, b = matrices(factors)
    first = tensor(a, 3, 2, 0, 1).repeat(groups, 1, 1, 1)
    second = tensor(b, 1, 0)[:, :, None, None]
    conv = torch.nn.functional.conv2d
    base = conv(picture, tensor(kernel, 3, 2, 0, 1), groups=groups, **how)
    down = conv(picture, first, groups=groups, **how)
    return (base + scale * conv(down, second, groups=groups)).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation"),
    [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 0, 2), (1, 2, 0, 1)],
)
def test_a_merged_convolution_is_two_convolutions(groups, size, stride, padding, dilation):
    """Groups, a depthwise convolution among them, share A and have columns of B each."""
    strategy = LoRA(rank=1, alpha=0.7) if (size, groups) == (1, 6) else LoRA(rank=2, alpha=0.7)
    kernel, factors, whole = learnt(strategy, (size, size, 6 // groups, 12))
    x = RNG.normal(size=(2, 9, 8, 6)).astype(np.float32)
    ours = lax.conv_general_dilated(
        x,
        whole,
        (stride, stride),
        [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        **PRECISE,
    )
    how = {"stride": stride, "padding": padding, "dilation": dilation}
    theirs = in_pytorch(x, kernel, factors, 0.7 / strategy.rank, groups, **how)
    assert np.abs(theirs).max() > 0.5
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


def test_two_convolutions_in_float64():
    """What is left above is rounding."""
    with jax.enable_x64(True):
        kernel, a, b = (
            RNG.normal(size=s) for s in ((3, 3, 2, 6), (3, 3, 2, 1, 2), (1, 1, 1, 6, 2))
        )
        own = {"A": jnp.asarray(a), "B": jnp.asarray(b)}
        params = {"backbone": {"k": jnp.asarray(kernel)}, "strategy": beside({"backbone/k": own})}
        whole = LoRA(rank=2, alpha=1.0).effective(params)["backbone"]["k"]
        x = RNG.normal(size=(2, 7, 7, 4))
        ours = lax.conv_general_dilated(
            x, whole, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2, **PRECISE,
        )  # fmt: skip
        theirs = in_pytorch(x, kernel, own, 0.5, 2, stride=2, padding=1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_merged_dense_layer_is_two_layers():
    kernel, factors, whole = learnt(LoRA(rank=3, alpha=6.0), (10, 7))
    x = RNG.normal(size=(5, 10)).astype(np.float32)
    linear = torch.nn.functional.linear
    tensors = [torch.from_numpy(np.array(w).T) for w in (kernel, *matrices(factors))]
    base, first, second = tensors
    given = torch.from_numpy(x)
    theirs = linear(given, base) + 2.0 * linear(linear(given, first), second)
    np.testing.assert_allclose(x @ whole, theirs, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("shape", "out"), [((7, 10), 0), ((4, 3, 3, 5), 0), ((3, 3, 4, 1), 2), ((6, 6), 0), ((4, 4), 1)]
)
@pytest.mark.parametrize("rank", [1, 4])
def test_outputs_may_be_on_any_axis(shape, out, rank):
    """Equinox has them in front; a rank as large as a side leaves no doubt which axis it is."""
    kernel, factors, whole = learnt(LoRA(rank=rank, alpha=float(rank)), shape, out)
    a, b = matrices(factors, out - 1 if out < 0 else out)
    expected = np.einsum("...r,ro->...o", a.astype(np.float64), b)
    difference = np.moveaxis(np.asarray(whole - kernel, np.float64), out, -1)
    np.testing.assert_allclose(difference, expected, rtol=1e-4, atol=1e-6)
    matrix = difference.reshape(-1, shape[out])
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == rank == factors["A"].shape[-1]


def test_it_starts_at_the_source_to_the_bit():
    strategy = LoRA()
    assert isinstance(strategy, Strategy)
    assert isinstance(strategy, Reparametrises)
    own = strategy.init(KEY, HERE.model, HERE.batch)
    params = {**HERE.variables.params, "strategy": own.params}
    used = strategy.effective(params)
    jax.tree.map(np.testing.assert_array_equal, used, params)
    assert own.state == {}
    paths = {f"{s}/conv/kernel/{f}" for s in ("stage1", "stage2") for f in "AB"}
    assert set(flat(own.params)) == paths


def test_factors_are_as_random_as_said():
    """Variance 1/n, and another draw for every kernel."""
    model = Model(Bare((("a", (400, 60), -1), ("b", (60, 10, 5, 8), 0))), None, ImageInput())
    own = LoRA(rank=50).init(KEY, model, HERE.batch).params
    for name, inputs in (("a", 400), ("b", 400)):
        factor = np.asarray(own[name]["A"])
        np.testing.assert_allclose(factor.var() * inputs, 1, rtol=0.05)
        assert abs(factor.mean()) * np.sqrt(factor.size * inputs) < 4
    assert not np.array_equal(own["a"]["A"][:10, 0], own["b"]["A"].ravel()[:10])


def test_factors_and_head_move_alone():
    strategy = LoRA(targets=("*stage2*",))
    params = {**HERE.variables.params, "divergence/x": {"w": jnp.ones(2)}}
    params["strategy"] = strategy.init(KEY, HERE.model, HERE.batch).params
    (planned,) = plan(strategy, HERE.model, params, 5)
    moving = {path for path, moves in flat(planned.trainable).items() if moves}
    factors = {f"strategy/stage2/conv/kernel/{name}" for name in "AB"}
    assert moving == {"head/kernel", "head/bias", "divergence/x/w", *factors}
    assert (planned.model.frozen, planned.phase.norm) == (1, "frozen")


def test_the_gradient_is_the_low_rank_one():
    """dL/dB = scale AᵀG and dL/dA = scale G Bᵀ, with G the gradient of the whole kernel."""
    strategy = LoRA(rank=2, alpha=3.0)
    own = strategy.init(KEY, HERE.model, HERE.batch).params
    own = jax.tree.map(lambda leaf: leaf + 0.1, own)
    params, state = HERE.variables

    def loss(params):
        variables = Variables(params, state)
        return HERE.model.apply(variables, HERE.batch, rng=KEY, mode="eval").loss.mean()

    @quick_jit
    def slopes(own):
        whole = strategy.effective({**params, "strategy": own})
        low = jax.grad(lambda own: loss(strategy.effective({**params, "strategy": own})))(own)
        return low, jax.grad(loss)(whole)["backbone"]

    low, high = slopes(own)
    for stage in ("stage1", "stage2"):
        a, b = matrices(own[stage]["conv"]["kernel"])
        g = np.asarray(high[stage]["conv"]["kernel"], np.float64).reshape(-1, b.shape[1])
        for_a, for_b = matrices(low[stage]["conv"]["kernel"])
        np.testing.assert_allclose(for_b, 1.5 * a.reshape(-1, 2).T @ g, rtol=1e-3, atol=1e-6)
        slope = (1.5 * g @ b.T).reshape(a.shape)
        np.testing.assert_allclose(for_a, slope, rtol=1e-3, atol=1e-6)


def test_kernels_keep_their_type():
    own = {"A": jnp.ones((4, 1, 1)), "B": jnp.ones((1, 3, 1))}
    params = {"backbone": {"k": jnp.ones((4, 3), jnp.bfloat16)}, "strategy": {"k": own}}
    used = added(params, lambda shape, factors: product(factors))
    assert used["backbone"]["k"].dtype == jnp.bfloat16
    assert used["strategy"] is params["strategy"]


@pytest.mark.parametrize(
    ("shape", "out", "rank"), [((3, 3, 4, 8), 3, 8), ((1, 1, 4, 8), 3, 4), ((3, 3, 9, 1), 3, 1)]
)
def test_own_rank(shape, out, rank):
    assert own_rank(Kernel(shape, "float32", (out,))) == rank


def test_layers_and_heads_have_factors_of_their_own():
    """A stack of kernels is that many matrices; a kernel of heads is one."""
    shapes = (("stack", (5, 12, 8), -1, (0,)), ("behind", (12, 5, 8), -1, (1,)),
              ("query", (12, 4, 2), (1, 2), ()), ("out", (4, 3, 6), -1, ()))  # fmt: skip
    model = Model(Bare(shapes), None, ImageInput())
    params, _ = model.init(KEY, HERE.batch)
    strategy = LoRA(rank=2, alpha=2.0)
    own = strategy.init(KEY, model, HERE.batch).params
    drawn = np.asarray(own["stack"]["A"])
    assert drawn.shape == (5, 12, 1, 2)
    assert own["stack"]["B"].shape == (5, 1, 8, 2)
    assert len(np.unique(drawn[:, 0, 0, 0])) == 5
    np.testing.assert_allclose(own["query"]["A"].std() * np.sqrt(12), 1, rtol=0.5)
    own = jax.tree.map(lambda leaf: leaf + RNG.normal(size=leaf.shape).astype("f4"), own)
    used = strategy.effective({**params, "strategy": own})["backbone"]
    change = {name: np.asarray(used[name] - params["backbone"][name]) for name in used}
    ranks = np.linalg.matrix_rank(change["stack"], tol=1e-4)
    assert ranks.tolist() == [2] * 5
    assert np.linalg.matrix_rank(change["stack"].reshape(60, 8), tol=1e-4) == 8
    ranks = np.linalg.matrix_rank(np.moveaxis(change["behind"], 1, 0), tol=1e-4)
    assert ranks.tolist() == [2] * 5
    assert np.linalg.matrix_rank(change["query"].reshape(12, 8), tol=1e-4) == 2
    assert np.linalg.matrix_rank(change["out"].reshape(12, 6), tol=1e-4) == 2


def test_axes_that_nobody_knows_are_asked_for():
    model = Model(Bare((("odd", (5, 12, 8), None, ()),)), None, ImageInput())
    with pytest.raises(ConfigError, match=r'odd \(5, 12, 8\) cannot be seen.*leaves=\{"odd": '):
        LoRA().init(KEY, model, HERE.batch)


def test_refusals():
    with pytest.raises(ConfigError, match=r"rank is the number .* not 0"):
        LoRA(rank=0)
    with pytest.raises(ConfigError, match="alpha scales"):
        LoRA(alpha=0.0)
    with pytest.raises(ConfigError, match=r"rank = 5 .*/stage1/conv/kernel \(4\)\. Lower it to 4,"):
        LoRA(rank=5).init(KEY, HERE.model, HERE.batch)
    assert LoRA(rank=5, targets=("*stage2*",)).init(KEY, HERE.model, HERE.batch).params
    wrong = LoRA(targets=("backbone/stage1/conv/kernl",))
    with pytest.raises(ConfigError, match="Did you mean 'backbone/stage1/conv/kernel'"):
        wrong.init(KEY, HERE.model, HERE.batch)
    with pytest.raises(ConfigError, match="matches no parameter"):
        LoRA(targets=("*/norm/*",)).init(KEY, HERE.model, HERE.batch)
    none = Model(Bare((("scale", (3, 3), -1),), (("scale", "norm"),)), None, ImageInput())
    with pytest.raises(ConfigError, match="this backbone has none"):
        LoRA().init(KEY, none, HERE.batch)
    with pytest.raises(ConfigError, match="the backbone has no kernel"):
        LoRA(targets=("*",)).init(KEY, none, HERE.batch)
    with pytest.raises(ConfigError, match="no head"):
        LoRA().phases(Model(ToyBackbone(), None, ImageInput()), 1)
