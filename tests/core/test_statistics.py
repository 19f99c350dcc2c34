"""Running statistics computed anew: against PyTorch's `update_bn`, and for other people's norms."""

from dataclasses import dataclass, replace
from functools import partial

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_equinox.backbone import wrap_equinox
from tlx_haiku.backbone import wrap_haiku
from tlx_image import ImageInput

from tlx import registry
from tlx.errors import ConfigError, DataError
from tlx.model import Model
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world
from tlx.trees import flat
from tlx.types import Tensors, Variables, unlabelled
from tlx.weights.matching import match
from tlx.weights.statistics import recomputed

KEY = jax.random.key(0)
PICTURES = np.random.default_rng(0).random((24, 8, 8, 3), np.float32)
BATCHES = 3


def batches(pictures=PICTURES, weight=None):
    """As the stream gives them."""
    weight = np.ones(len(pictures), np.float32) if weight is None else weight
    return [
        unlabelled({"image": jnp.asarray(image)})._replace(weight=jnp.asarray(counted))
        for image, counted in zip(
            np.split(pictures, BATCHES), np.split(weight, BATCHES), strict=True
        )
    ]


def alike(ours, theirs, **tolerance):
    theirs = flat(theirs)
    for path, leaf in flat(ours).items():
        np.testing.assert_allclose(leaf, theirs[path], err_msg=path, **tolerance)


def test_as_pytorch_updates_its_own(torch_resnet20):
    """ResNet-20 with random weights, three batches; PyTorch takes up unbiased variances."""
    network = torch_resnet20()
    backbone = registry.build("backbones", "resnet20")
    model = Model(backbone, None, ImageInput())
    pictures = np.random.default_rng(1).random((24, 16, 16, 3), np.float32)

    def ours():
        values = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        like = jax.eval_shape(model.init, KEY, batches(pictures)[0])
        found, report = match(Tensors(values, "memory"), like, backbone.dialects)
        assert not report.initialised
        return found

    found = recomputed(model, ours(), batches(pictures))
    loader = [torch.from_numpy(part.transpose(0, 3, 1, 2)) for part in np.split(pictures, BATCHES)]
    torch.optim.swa_utils.update_bn(loader, network)
    alike(found.state, ours().state, rtol=2e-5, atol=1e-6)


def by_hand(variables, pictures):
    """The toy's statistics batch by batch, with its running ones replaced; two stages."""
    backbone = ToyBackbone(momentum=0.0, dropout=0.0)
    model = Model(backbone, None, backbone.inputs)
    run = quick_jit(lambda batch: model.features(variables, batch, rng=KEY, mode="train")[1])
    each = [run(batch) for batch in batches(pictures)]
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float64), *each)


@pytest.fixture(scope="module")
def start():
    toy = Model(ToyBackbone(), None, ToyBackbone().inputs)
    variables = quick_jit(toy.init)(KEY, batches()[0])
    return variables._replace(state=jax.tree.map(lambda leaf: leaf + 3, variables.state))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.9999])
def test_whatever_the_momentum_is(momentum, start):
    """0.9999 leaves 1e-4 of a batch, which a difference of rounded numbers would spoil."""
    backbone = ToyBackbone(momentum=momentum, dropout=0.0)
    model = Model(backbone, None, backbone.inputs, norm="frozen")
    found = recomputed(model, start, iter(batches()))
    alike(found.state["backbone"], by_hand(start, PICTURES), rtol=2e-6, atol=1e-7)
    assert found.params is start.params


def test_large_and_small_statistics_keep_their_digits(start):
    """The starting points go with the size of what they are added to."""
    params = jax.tree.map(lambda leaf: leaf, start.params)
    for stage, size in (("stage1", 1e4), ("stage2", 1e-4)):
        kernel = params["backbone"][stage]["conv"]["kernel"] * size
        params["backbone"][stage]["conv"]["kernel"] = kernel
    variables = start._replace(params=params)
    backbone = ToyBackbone(dropout=0.0)
    found = recomputed(Model(backbone, None, backbone.inputs), variables, batches())
    alike(found.state["backbone"], by_hand(variables, PICTURES), rtol=1e-5, atol=1e-12)


def test_padding_does_not_count(start):
    """The last batch repeats an example with weight 0; it is left out, or alone and cut."""
    backbone = ToyBackbone(dropout=0.0)
    model = Model(backbone, None, backbone.inputs)
    weight = np.ones(24, np.float32)
    weight[-3:] = 0
    padded = batches(weight=weight)
    two = recomputed(model, start, batches()[:2]).state
    jax.tree.map(np.testing.assert_array_equal, recomputed(model, start, padded).state, two)
    alone = recomputed(model, start, padded[2:]).state
    cut = unlabelled({"image": PICTURES[16:21]})
    jax.tree.map(np.testing.assert_array_equal, alone, recomputed(model, start, [cut]).state)


def test_frozen_stages_keep_theirs(start):
    backbone = ToyBackbone(dropout=0.0)
    model = Model(backbone, None, backbone.inputs, frozen=1)
    was, found = start.state["backbone"], recomputed(model, start, batches()).state["backbone"]
    jax.tree.map(np.testing.assert_array_equal, found["stage1"], was["stage1"])
    swift = replace(model, backbone=ToyBackbone(momentum=0.0, dropout=0.0))
    run = quick_jit(lambda batch: swift.features(start, batch, rng=KEY, mode="train")[1])
    means = [run(batch)["stage2"]["mean"] for batch in batches()]
    np.testing.assert_allclose(found["stage2"]["mean"], np.mean(means, 0), rtol=1e-5)


def test_what_is_not_the_networks_stays():
    """A head without statistics; numbers of a strategy; a second call changes nothing."""
    here = world(8)
    state = {**here.variables.state, "strategy": {"average": jnp.ones(3), "n": jnp.int32(4)}}
    variables = Variables(here.variables.params, state)
    found = recomputed(here.model, variables, batches())
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    assert found.state["strategy"] is state["strategy"]
    again = recomputed(here.model, found, batches())
    jax.tree.map(np.testing.assert_array_equal, again.state, found.state)


class HaikuNorm(hk.Module):
    def __call__(self, x, is_training):
        return hk.BatchNorm(True, True, decay_rate=0.9)(x, is_training)


class EquinoxNorm(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self, mode, key):
        self.norm = eqx.nn.BatchNorm(3, "batch", momentum=0.9, mode=mode)

    def __call__(self, x, state, *, key):
        return self.norm(x, state)


def haiku():
    modes = {"train": {"is_training": True}, "eval": {"is_training": False}}
    return wrap_haiku(HaikuNorm, ("map",), ImageInput(size=(8, 8)), modes=modes)


def equinox(mode):
    return wrap_equinox(EquinoxNorm, ("map",), ImageInput(size=(8, 8)), options={"mode": mode})


@pytest.mark.parametrize(
    "make", [haiku, lambda: equinox("batch"), lambda: equinox("ema")], ids=["haiku", "batch", "ema"]
)
@pytest.mark.parametrize("steps", [0, 2])
def test_averages_that_correct_for_their_first_steps(make, steps):
    """Fresh or after two training passes, evaluation then normalises by the mean over batches,
    and a training pass goes on from there."""
    model = Model(make(), None, ImageInput(size=(8, 8)))
    params, state = quick_jit(model.init)(KEY, batches()[0])

    @partial(quick_jit, static_argnames="mode")
    def run(state, image, mode):
        batch = unlabelled({"image": image})
        return model.features(Variables(params, state), batch, rng=KEY, mode=mode)

    for batch in batches()[:steps]:
        state = {"backbone": run(state, batch.inputs["image"] * 2, "train")[1]}
    found = recomputed(model, Variables(params, state), batches())
    parts = [part.astype(np.float64) for part in np.split(PICTURES, BATCHES)]
    mean = np.mean([part.mean((0, 1, 2)) for part in parts], 0)
    var = np.mean([part.var((0, 1, 2)) for part in parts], 0)

    def normalised(state):
        return run(state, PICTURES, "eval")[0]["map"]

    expected = (PICTURES - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(normalised(found.state), expected, rtol=1e-5, atol=1e-5)
    body = run(found.state, PICTURES[:8], "train")[1]
    moved = 0.9 * mean + 0.1 * parts[0].mean((0, 1, 2))
    after = 0.9 * var + 0.1 * parts[0].var((0, 1, 2))
    expected = (PICTURES - moved) / np.sqrt(after + 1e-5)
    np.testing.assert_allclose(normalised({"backbone": body}), expected, rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class Leaning:
    """Normalises by its running mean also while it trains."""

    leans: bool = True

    inputs = ToyBackbone().inputs
    features = ToyBackbone().features
    modes = frozenset({"train", "eval"})

    def init(self, rng, x):
        counts = {"seen": jnp.zeros((), jnp.int32), "mean": jnp.zeros(3), "odd": jnp.zeros(3)}
        return Variables({"scale": jnp.ones(3)}, counts)

    def apply(self, params, state, x, *, rng, mode):
        mean = x.mean((0, 1, 2))
        odd = jnp.square(state["odd"]) + mean
        new = {"mean": 0.9 * state["mean"] + 0.1 * mean, "odd": odd, "seen": state["seen"] + 2}
        pooled = x.mean((1, 2)) - (state["mean"] if self.leans else mean)
        return {"pooled": pooled * params["scale"]}, new if mode == "train" else state


def test_leaves_that_move_otherwise_stay():
    model = Model(Leaning(leans=False), None, ImageInput())
    variables = model.init(KEY, batches()[0])
    seven = {**variables.state["backbone"], "odd": jnp.full(3, 7.0)}
    found = recomputed(model, Variables(variables.params, {"backbone": seven}), batches())
    found = found.state["backbone"]
    np.testing.assert_array_equal(found["odd"], [7, 7, 7])
    assert found["seen"] == 0
    np.testing.assert_allclose(found["mean"], PICTURES.mean((0, 1, 2)), rtol=1e-5)


def test_refusals(start):
    model = Model(Leaning(), None, ImageInput())
    with pytest.raises(ConfigError, match="features depend on its running statistics"):
        recomputed(model, model.init(KEY, batches()[0]), batches())
    toy = Model(ToyBackbone(), None, ToyBackbone().inputs)
    with pytest.raises(DataError, match="no batch"):
        recomputed(toy, start, [])

    @dataclass(frozen=True)
    class Still(Leaning):
        modes = frozenset({"eval"})

    with pytest.raises(ConfigError, match="no mode 'train'"):
        recomputed(replace(model, backbone=Still()), model.init(KEY, batches()[0]), batches())


def test_without_statistics_no_picture_is_looked_at():
    variables = Variables({"backbone": {}}, {"backbone": {}})
    assert recomputed(Model(ToyBackbone(), None, ImageInput()), variables, []) is variables
