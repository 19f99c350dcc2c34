"""Numbers that go wrong without a word: a naive loop goes on with them, tlx says so or stops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tlx import registry
from tlx.errors import CollapsedError, DivergedError
from tlx.protocols import Phase
from tlx.quantities import asked
from tlx.studies.comparison import sentence
from tlx.types import Forward, Variables, unlabelled

KEY = jax.random.key(0)


def dividing(params, x):
    """The distance of a number from itself: its derivative divides by it."""
    return jnp.sqrt(jnp.sum((params - jax.lax.stop_gradient(params)) ** 2)) + 0 * x


def broken(*, head_params, progress):
    """The same from the third of six steps on."""
    lengths = [jnp.sum(leaf**2) for leaf in jax.tree.leaves(head_params)]
    return jnp.where(progress < 0.3, 0.0, jnp.nan) * sum(lengths)


def test_a_nan_runs_on(tiny, tmp_path):
    params, transform = jnp.ones(3), optax.adam(0.1)
    state = transform.init(params)
    for step in range(1, 100):
        grads = jax.grad(lambda p: dividing(p, 0.0))(params) if step == 3 else jnp.ones(3)
        updates, state = transform.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert step == 99, "the loop has got to its end"
    assert jnp.isnan(params).all()
    table = tiny(divergence=[{"name": f"{__file__}:broken", "weight": 0.1}], steps=6)
    with pytest.raises(DivergedError, match=r"broken' is nan at step 3"):
        tlx.run(table, out=tmp_path / "run")


def test_what_skips_a_nan_applies_it_in_the_end(tiny, tmp_path):
    """`apply_if_finite(..., n)` lets the (n+1)-th in a row through."""
    params, transform = jnp.ones(3), optax.apply_if_finite(optax.sgd(0.1), 4)
    state, finite = transform.init(params), []
    for _ in range(6):
        updates, state = transform.update(jnp.full(3, jnp.nan), state, params)
        params = optax.apply_updates(params, updates)
        finite.append(bool(jnp.isfinite(params).all()))
    assert finite == [True] * 4 + [False] * 2
    table = tiny(divergence=[{"name": f"{__file__}:broken", "weight": 0.1}], steps=60)
    table["optimizer"]["on_nan"] = "skip"
    with pytest.raises(DivergedError, match="20"):
        tlx.run(table, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["feature_l2", "kl", "symmetric_kl", "js", "attention_transfer"])
def test_lambda_means_something_else_at_another_batch_size(name):
    """A sum over the batch: twice the pictures, twice the weight of the divergence."""
    ours, theirs = jax.random.normal(KEY, (2, 4, 5))
    naive = [jnp.sum((a - b) ** 2) for a, b in ((ours, theirs), twice((ours, theirs)))]
    assert naive[1] == pytest.approx(2 * float(naive[0]))
    divergence = registry.build("divergences", name)
    maps = jax.random.normal(KEY, (2, 4, 3, 3, 5))
    one = value(divergence, (ours, theirs), maps)
    two = value(divergence, twice((ours, theirs)), twice(maps))
    assert one > 0
    assert two == pytest.approx(float(one), rel=1e-5)


def twice(pair):
    return tuple(jnp.concatenate([part, part]) for part in pair)


def value(divergence, outputs, maps):
    """Of a divergence between what two networks say of the same batch."""

    def named(leaf):
        return {name: leaf for name in ("stage1", "stage2")} | {"pooled": leaf.mean((1, 2))}

    have = {
        "outputs": outputs[0], "source_outputs": outputs[1],
        "features": named(maps[0]), "source_features": named(maps[1]),
        "batch": unlabelled({"image": outputs[0]}),
    }  # fmt: skip
    return divergence(**{word: have[word] for word in asked(divergence, "it")})


class Alike:
    """Two views of a picture shall look alike, and nothing else is asked for."""

    keeps = "last"

    def trivial(self, batch_size):
        return 0.0

    def init(self, rng, model, batch):
        return Variables({}, {})

    def phases(self, model, steps):
        def group(path):
            return "all"

        return (Phase(name="alike", steps=steps, group=group, forward=self.forward, norm="frozen"),)

    def forward(self, model, variables, batch, constants, *, rng, mode, progress):
        image, (one, two) = batch.inputs["image"], jax.random.split(rng)
        noisy = image / 255 + 0.1 * jax.random.normal(two, image.shape)
        other = batch._replace(inputs={"image": noisy})
        first, _ = model.features(variables, batch, rng=one, mode="eval")
        second, _ = model.features(variables, other, rng=one, mode="eval")
        loss = jnp.square(first["pooled"] - second["pooled"]).sum(-1)
        return Forward(loss, batch.inputs, first, None, variables.state)


def test_the_loss_falls_to_nothing_and_so_do_the_features(tiny, tmp_path):
    image = jax.random.normal(KEY, (32, 6))
    weights, transform = jax.random.normal(KEY, (6, 4)), optax.adam(0.05)
    noise = 0.5 * jax.random.normal(jax.random.key(1), image.shape)
    state = transform.init(weights)

    def loss(weights):
        return jnp.square(image @ weights - (image + noise) @ weights).mean()

    before = float((image @ weights).std(0).mean())
    for _ in range(300):
        updates, state = transform.update(jax.grad(loss)(weights), state, weights)
        weights = optax.apply_updates(weights, updates)
    assert loss(weights) < 1e-4, "as good as a loss can be"
    assert float((image @ weights).std(0).mean()) < before / 100
    table = tiny(
        head="none", strategy=f"{__file__}:Alike", steps=300, eval_every=3,
        optimizer={"name": "adam", "learning_rate": 0.1},
    )  # fmt: skip
    with pytest.raises(CollapsedError, match="nearly the same for every picture"):
        tlx.run(table, out=tmp_path / "run")


def test_a_transfer_that_is_worse_than_none():
    """92 % is a fine number, unless 95 % come out of random weights."""
    ours, scratch = 0.92, 0.95
    assert np.round(ours * 100) == 92, "what a script prints, and that is all it prints"

    def result(accuracy, weights):
        numbers = {"accuracy": accuracy, "loss": 1 - accuracy}
        return {
            "test": numbers, "val": numbers, "weights": weights, "examples": {"test": 2000},
            "trainable_parameters": 10, "seconds": 1.0,
        }  # fmt: skip

    results = {"transfer": result(ours, "imagenet"), "scratch": result(scratch, None)}
    said = sentence(results, "accuracy", "max")
    assert said.startswith("The source does not help, it hurts: transfer 92.0 %, scratch 95.0 %")
