"""DELTA: its attention against PyTorch, one forward pass for every channel that is set to zero."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tlx_divergences.channel_attention import (
    attention,
    fitted_head,
    losses_without,
    observed,
    sites,
)
from tlx_divergences.delta import Delta
from tlx_divergences.feature_l2 import FeatureL2

from tlx import registry
from tlx.contracts.phase import Examples
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.quantities import asked
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import Batch, FeatureSpec, Network, Variables

BACKBONE = ToyBackbone(width=3, size=(8, 8))
MODEL = Model(BACKBONE, ToyHead(), BACKBONE.inputs)
PENALTY = 1e-2


def batch_of(first, count, weight=1.0):
    rng = np.random.default_rng(first)
    label = (first + np.arange(count)) % 3
    image = rng.integers(0, 256, (count, 8, 8, 3)) // 2 + 40 * label[:, None, None, None]
    return Batch(
        {"image": image.astype(np.uint8)},
        {"label": label.astype(np.int32)},
        np.arange(first, first + count, dtype=np.int32),
        np.full(count, weight, np.float32),
    )


BATCHES = [batch_of(0, 6), batch_of(6, 6)]


@pytest.fixture(scope="module")
def source():
    """A body with statistics of its own, as a trained one has them."""
    variables = quick_jit(MODEL.init)(jax.random.key(3), BATCHES[0])
    rng = np.random.default_rng(1)
    state = jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.2, 0.6, x.shape), x.dtype), variables.state
    )
    return Network(MODEL, Variables(variables.params, state))


@pytest.fixture(scope="module")
def prepared(source):
    return prepare(Delta(penalty=PENALTY), source, BATCHES)


def prepare(delta, source, batches, model=MODEL):
    return delta.prepare(
        model=model,
        variables=Variables({}, {}),
        source=source,
        batches=iter(batches),
        rng=jax.random.key(0),
    )


def torch_features(body, image, without=None):
    """(stage1, stage2, pooled) of the toy network in PyTorch; `without` is (stage, channel)."""
    tensor = lambda x: torch.tensor(np.asarray(x, np.float64))  # noqa: E731
    x = tensor(image).permute(0, 3, 1, 2) / 255 * 2 - 1
    found = []
    for number, stage in enumerate(("stage1", "stage2")):
        params, state = body.params["backbone"][stage], body.state["backbone"][stage]
        x = torch.nn.functional.pad(x, (0, 1, 0, 1) if number else (1, 1, 1, 1))
        kernel = tensor(params["conv"]["kernel"]).permute(3, 2, 0, 1)
        x = torch.nn.functional.conv2d(x, kernel, tensor(params["conv"]["bias"]), number + 1)
        x = torch.relu(
            torch.nn.functional.batch_norm(
                x, tensor(state["mean"]), tensor(state["var"]),
                tensor(params["norm"]["scale"]), tensor(params["norm"]["bias"]),
            )
        )  # fmt: skip
        if without and without[0] == stage:
            x = x.clone()
            x[:, without[1]] = 0
        found.append(x)
    return *found, x.mean((2, 3))


def everything():
    return np.concatenate([b.inputs["image"] for b in BATCHES]), np.concatenate(
        [b.targets["label"] for b in BATCHES]
    )


def test_attention_by_hand():
    losses = [0.5, 0.7, 0.4, 2.0, 0.5]
    mean = sum(losses) / 5
    spread = (sum((each - mean) ** 2 for each in losses) / 5) ** 0.5
    raised = [np.exp((each - mean) / spread / 5) for each in losses]
    np.testing.assert_allclose(
        attention(jnp.asarray(losses)), np.array(raised) / sum(raised), rtol=1e-5
    )
    np.testing.assert_allclose(attention(jnp.asarray(losses) - 7), raised / np.sum(raised), 1e-5)
    np.testing.assert_allclose(attention(jnp.full(4, 0.3)), 0.25)
    np.testing.assert_allclose(attention(jnp.ones(1)), 1)


def test_it_is_torchs_with_scikit_learns_head_and_a_pass_for_every_channel(source, prepared):
    image, label = everything()
    pooled = torch_features(source.variables, image)[-1].numpy()
    ones = np.ones((len(label), 1))
    inverse = 1 / (len(label) * PENALTY)  # scikit-learn sums losses and leaves the bias free
    head = LogisticRegression(C=inverse, fit_intercept=False, tol=1e-10, max_iter=10_000)
    head.fit(np.c_[pooled, ones], label)
    for stage, channels in (("stage1", 3), ("stage2", 6)):
        losses = []
        for channel in range(channels):
            seen = torch_features(source.variables, image, (stage, channel))[-1].numpy()
            log_p = head.predict_log_proba(np.c_[seen, ones])
            losses.append(-log_p[np.arange(len(label)), label].mean())
        assert np.std(losses) > 1e-3
        score = (losses - np.mean(losses)) / np.std(losses) / 5
        wanted = np.exp(score) / np.exp(score).sum()
        np.testing.assert_allclose(prepared[stage], wanted, rtol=2e-3)
    assert prepared.keys() == {"stage1", "stage2"}


def test_the_fitted_head_is_scikit_learns():
    rng = np.random.default_rng(0)
    pooled, label = rng.normal(size=(40, 4)), np.arange(40) % 3
    pooled[:, 0] += label
    inputs, targets = {"image": np.zeros((1, 8, 8, 3), np.uint8)}, {"label": jnp.asarray(label)}
    batch = Batch(inputs, targets, jnp.arange(40), jnp.ones(40))
    seen = Examples({"pooled": jnp.asarray(pooled)}, batch)
    head = fitted_head(ToyHead(), seen, PENALTY, jax.random.key(0)).params
    inverse = 1 / (40 * PENALTY)
    theirs = LogisticRegression(C=inverse, fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(np.c_[pooled, np.ones(40)], label)
    np.testing.assert_allclose(head["kernel"], theirs.coef_.T[:-1], atol=2e-3)
    np.testing.assert_allclose(head["bias"], theirs.coef_.T[-1], atol=2e-3)


def test_how_batches_are_cut_does_not_matter(source, prepared):
    image, label = everything()
    padded = batch_of(0, 16, 0.0)._replace(targets={"label": np.full(16, -1, np.int32)})
    padded.weight[:12], padded.targets["label"][:12] = 1, label
    padded.inputs["image"][:12] = image
    again = prepare(Delta(penalty=PENALTY), source, [padded])
    for name, weights in prepared.items():
        np.testing.assert_allclose(again[name], weights, rtol=1e-3)


def test_no_more_examples_than_asked_for_are_measured_on(source):
    batches = [batch_of(first, 4) for first in (0, 4, 8, 12)]
    seen, drawn = observed(MODEL, source.variables, iter(batches), 6, jax.random.key(0))
    assert seen.features["pooled"].shape == (16, 6)
    np.testing.assert_array_equal(seen.batch.index, np.arange(16))
    numbers = [int(i) for b in drawn for i in b.index[b.weight > 0]]
    assert len(set(numbers)) == 6
    assert [len(b.index) for b in drawn] == [4, 4]
    other = observed(MODEL, source.variables, iter(batches), 6, jax.random.key(1))[1]
    assert numbers != [int(i) for b in other for i in b.index[b.weight > 0]]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_how_many_channels_go_at_once_does_not_matter(source, at_once):
    places = sites(MODEL, source.variables, BATCHES[0]).values()

    def losses(variables, batch, at_once):
        return losses_without(MODEL, variables, batch, places, at_once=at_once)

    run = quick_jit(losses, static_argnames="at_once")
    found = run(source.variables, BATCHES[0], at_once=at_once)
    for name, each in run(source.variables, BATCHES[0], at_once=4).items():
        np.testing.assert_allclose(found[name], each, rtol=1e-5)


def test_a_feature_is_reached_between_stages_or_where_the_head_reads_it(source):
    found = sites(MODEL, source.variables, BATCHES[0])
    assert {name: (site.start, site.copies) for name, site in found.items()} == {
        "stage1": (1, ()),
        "stage2": (2, ("pooled",)),
        "pooled": (2, ("pooled",)),
    }


def test_the_last_map_and_the_vector_that_is_its_mean_have_one_attention(source, prepared):
    found = prepare(Delta(("pooled",), penalty=PENALTY), source, BATCHES)
    np.testing.assert_allclose(found["pooled"], prepared["stage2"], rtol=1e-4)


def test_value_by_hand_and_zero_at_the_source(prepared):
    rng = np.random.default_rng(0)
    shapes = {"stage1": (2, 4, 4, 3), "stage2": (2, 2, 2, 6)}
    now, then = ({k: rng.normal(size=s) for k, s in shapes.items()} for _ in range(2))
    assert asked(Delta()) == {"features", "source_features", "prepared"}
    total = 0.0
    for name, (b, h, w, c) in shapes.items():
        for channel in range(c):
            gap = now[name][..., channel] - then[name][..., channel]
            total += float(prepared[name][channel]) * np.sum(gap**2) / 2 / (b * h * w) / 2
    value, slope = quick_jit(jax.value_and_grad(held))(now, then, prepared)
    assert float(value) == pytest.approx(total, rel=1e-5)
    for name, each in slope.items():
        b, h, w, _ = shapes[name]
        wanted = np.asarray(prepared[name]) * (now[name] - then[name]) / (b * h * w) / 2
        np.testing.assert_allclose(each, wanted, rtol=1e-4, atol=1e-8)
    value, slope = quick_jit(jax.value_and_grad(held))(then, then, prepared)
    assert float(value) == 0
    assert all(not np.any(each) for each in slope.values())


def held(now, then, prepared):
    return Delta()(features=now, source_features=then, prepared=prepared)


def test_without_attention_it_is_feature_l2(source):
    rng = np.random.default_rng(0)
    now, then = (
        {
            "stage1": rng.normal(size=(2, 4, 4, 3)).astype(np.float32),
            "pooled": rng.normal(size=(2, 6)).astype(np.float32),
        }
        for _ in range(2)
    )
    delta = Delta(("stage1", "pooled"), attention=False)
    equal = prepare(delta, source, BATCHES)
    np.testing.assert_allclose(equal["pooled"], 1 / 6)
    plain = FeatureL2(("stage1", "pooled"))(features=now, source_features=then)
    assert float(held(now, then, equal)) == pytest.approx(float(plain), rel=1e-6)


@dataclass(frozen=True)
class Whole:
    """The toy network without stages, its vector behind a norm when `normed`."""

    inner: ToyBackbone
    normed: bool = False

    @property
    def features(self):
        return self.inner.features

    def apply(self, params, state, x, *, rng, mode):
        features, state = self.inner.apply(params, state, x, rng=rng, mode=mode)
        if self.normed:
            features["pooled"] = features["pooled"] / jnp.linalg.norm(features["pooled"])
        return features, state


def test_without_stages_only_what_the_head_reads_is_reached(source, prepared):
    whole = source._replace(model=replace(MODEL, backbone=Whole(BACKBONE)))
    found = prepare(Delta(penalty=PENALTY), whole, BATCHES)
    assert found.keys() == {"stage2"}
    np.testing.assert_allclose(found["stage2"], prepared["stage2"], rtol=1e-4)
    with pytest.raises(ConfigError, match=r"of 'stage1' to zero .* Choose from stage2, pooled"):
        prepare(Delta(("stage1", "stage2")), whole, BATCHES)
    with pytest.raises(ConfigError, match=r"of any map or tokens .* Choose from pooled"):
        prepare(
            Delta(), source._replace(model=replace(MODEL, backbone=Whole(BACKBONE, True))), BATCHES
        )
    free = prepare(Delta(("stage1",), attention=False), whole, BATCHES)
    np.testing.assert_allclose(free["stage1"], 1 / 3)


@dataclass(frozen=True)
class Idle:
    """Two stages of which the second does nothing yet, as with a layer scale of 0."""

    inputs = BACKBONE.inputs
    stages = ("one", "two")
    features = (FeatureSpec("one", "map", 3, 1), FeatureSpec("two", "map", 3, 1))
    modes = leaf = init = apply = None

    def apply_stages(self, params, state, carry, *, start, stop, rng, mode):
        return carry, {name: carry for name in self.stages[start:stop]}, state


def test_stages_that_do_nothing_yet_are_not_taken_for_each_other():
    model = Model(Idle(), ToyHead(), BACKBONE.inputs)
    found = sites(model, Variables({"backbone": {}}, {"backbone": {}}), BATCHES[0])
    assert {name: site.start for name, site in found.items()} == {"one": 1}


def test_refusals(source):
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        Delta(examples=0)
    with pytest.raises(ConfigError, match="0 or more, not -1"):
        Delta(penalty=-1.0)
    with pytest.raises(ConfigError, match="no head"):
        prepare(Delta(), source, BATCHES, replace(MODEL, head=None))
    with pytest.raises(ConfigError, match=r"Did you mean 'stage[12]'"):
        prepare(Delta(("stage3",), attention=False), source, BATCHES)
    head = registry.build("heads", "softmax", {"classes": 3, "feature": "deep"})
    with pytest.raises(ConfigError, match="the new head reads"):
        prepare(Delta(), source, BATCHES, replace(MODEL, head=head))
    with pytest.raises(ConfigError, match="there are none"):
        prepare(Delta(), source, [])
    with pytest.raises(ConfigError, match=r"\(2, 3\) here and \(1, 3\)"):
        Delta()(
            features={"a": jnp.ones((2, 3))},
            source_features={"a": jnp.ones((1, 3))},
            prepared={"a": jnp.ones(3)},
        )
