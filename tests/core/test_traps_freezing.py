"""What is called frozen and moves all the same: a naive loop moves it, tlx does not."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import save_file

import tlx
from tlx import config
from tlx.assemble import assemble
from tlx.checkpoint import Checkpoints
from tlx.errors import ConfigError
from tlx.protocols import Phase
from tlx.testing.toys import ToyBackbone
from tlx.training.train_state import like
from tlx.trees import flat
from tlx.types import Variables

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def source():
    """Backbone variables as if they were learnt: statistics unlike those of any batch here."""
    params, state = ToyBackbone(dropout=0.0).init(KEY, jnp.zeros((1, 8, 8, 3)))
    return Variables(params, jax.tree.map(lambda leaf: leaf + 0.5, state))


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    """The same as a file of weights."""
    path = tmp_path_factory.mktemp("source") / "source.safetensors"
    named = {path.replace("/", "/backbone/", 1): np.asarray(v) for path, v in flat(source).items()}
    save_file(named, path)
    return {"name": f"safetensors:{path}"}


def naive(source, transform, pictures, *, freeze=lambda step, grads: grads, steps=4):
    """The backbone after the usual loop, whose author believes that only the head moves."""
    held = np.load(pictures)
    image = jnp.float32(held["x_train"][:30]) / 127.5 - 1
    label = jnp.asarray(held["y_train"][:30])
    params = {"backbone": source.params, "head": jax.random.normal(KEY, (8, 3))}

    def loss(params):
        toy = ToyBackbone(dropout=0.0)
        features, _ = toy.apply(params["backbone"], source.state, image, rng=KEY, mode="eval")
        logits = features["pooled"] @ params["head"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    opt_state = transform.init(params)
    for step in range(steps):
        grads = freeze(step, jax.grad(loss)(params))
        updates, opt_state = transform.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params["backbone"]


def zeros(grads):
    return {**grads, "backbone": jax.tree.map(jnp.zeros_like, grads["backbone"])}


def moved(backbone, source):
    pairs = zip(jax.tree.leaves(backbone), jax.tree.leaves(source), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs)


def last(table, out):
    """The numbers after the last step, whichever was the best."""
    experiment = assemble(config.parse(table))
    with Checkpoints(out / "checkpoints") as checkpoints:
        return checkpoints.restore(lambda step, meta: like(experiment, step, meta)).tree["train"]


def frozen_run(tiny, file, out, **changes):
    table = tiny(**{
        "weights": file, "strategy": "feature_transfer", "steps": 4, "eval_every": 1, **changes,
    })  # fmt: skip
    tlx.run(table, out=out)
    return last(table, out)


def test_a_masked_optimizer_adds_the_raw_gradient(tiny, file, source, pictures, tmp_path):
    """`optax.masked` leaves what it masks as it came, and that is the gradient."""
    transform = optax.masked(optax.sgd(0.1), {"backbone": False, "head": True})
    assert moved(naive(source, transform, pictures), source.params) > 1e-3
    value = jnp.float32(1)
    alone = optax.masked(optax.sgd(0.1), False)
    update, _ = alone.update(jnp.float32(0.5), alone.init(value), value)
    assert optax.apply_updates(value, update) == 1.5
    sgd = {"name": "sgd", "learning_rate": 0.1}
    after = frozen_run(tiny, file, tmp_path / "run", optimizer=sgd)
    assert moved(after.params["backbone"], source.params) == 0
    assert float(jnp.abs(after.params["head"]["kernel"]).max()) > 0


def test_weight_decay_drifts_without_a_gradient(tiny, file, source, pictures, tmp_path):
    decayed = naive(
        source, optax.adamw(0.1, weight_decay=0.5), pictures, freeze=lambda _, g: zeros(g)
    )
    shrunk = jax.tree.map(lambda leaf: leaf * 0.95**4, source.params)
    assert moved(decayed, shrunk) < 1e-6
    assert moved(decayed, source.params) > 0.1
    adamw = {"name": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}
    after = frozen_run(tiny, file, tmp_path / "run", optimizer=adamw)
    assert moved(after.params["backbone"], source.params) == 0
    held = [path for path in flat(after.opt_state) if "backbone" in path]
    assert not held, "there is no optimizer state of what does not move"


@dataclass(frozen=True)
class FrozenMidRun:
    """Everything moves for `first` steps, then the head alone."""

    first: int = 3

    def init(self, rng, model, batch):
        return Variables({}, {})

    def phases(self, model, steps):
        def forward(model, variables, batch, constants, *, rng, mode, progress):
            return model.apply(variables, batch, rng=rng, mode=mode)

        def group(path):
            return "frozen" if path.startswith("backbone") else "head"

        whole = dict(forward=forward, norm="frozen")
        return (
            Phase(name="all", steps=self.first, group=lambda path: "all", **whole),
            Phase(name="head", steps=steps - self.first, group=group, **whole),
        )


def test_momentum_goes_on_after_freezing(tiny, file, source, pictures, tmp_path):
    sgd = optax.sgd(0.1, momentum=0.9)
    there = naive(source, sgd, pictures, steps=3)
    after = naive(
        source, sgd, pictures, steps=6, freeze=lambda step, g: zeros(g) if step >= 3 else g
    )
    assert moved(after, there) > 1e-3
    how = {"optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}}
    how["strategy"] = {"name": f"{__file__}:FrozenMidRun"}
    first = frozen_run(tiny, file, tmp_path / "first", steps=3, **how)
    both = frozen_run(tiny, file, tmp_path / "both", steps=6, **how)
    assert moved(first.params["backbone"], source.params) > 1e-3
    assert moved(both.params["backbone"], first.params["backbone"]) == 0
    assert moved(both.params["head"], first.params["head"]) > 0


def test_a_frozen_backbone_in_training_mode_forgets_its_statistics(tiny, file, source, tmp_path):
    """`model.train()` before each epoch, as every tutorial has it."""

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
            self.head = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(jax.lax.stop_gradient(self.norm(x)))

    network = Network(nnx.Rngs(0))
    network.train()
    image = 2 + jax.random.normal(KEY, (64, 3))
    before = float(network.norm.mean[...].mean())
    for _ in range(20):
        network(image)
    assert before == 0
    assert float(network.norm.mean[...].mean()) > 1.5
    after = frozen_run(tiny, file, tmp_path / "run")
    assert moved(after.state["backbone"], source.state) == 0


def test_a_pattern_that_matches_nothing_freezes_nothing(tiny, file, source):
    """'layer1' is what another library calls it."""
    paths = [f"backbone/{path}" for path in flat(source.params)]
    trainable = [path for path in paths if not re.match("backbone/layer1/", path)]
    assert trainable == paths
    table = tiny(weights=file, strategy={"name": "finetune", "frozen": ["layer1"]})
    with pytest.raises(ConfigError, match=r"'layer1'.*stage1"):
        assemble(config.parse(table))


def test_statistics_above_a_frozen_part_move(tiny, file, source, pictures):
    """Freezing the deeper stage by its gradient: its statistics follow what comes from below."""
    image = jnp.float32(np.load(pictures)["x_train"][:30]) / 127.5 - 1
    toy = ToyBackbone(dropout=0.0)
    _, state = toy.apply(source.params, source.state, image, rng=KEY, mode="train")
    assert moved(state["stage2"], source.state["stage2"]) > 0.01
    table = tiny(weights=file, strategy={"name": "finetune", "frozen": ["stage2"]})
    with pytest.raises(ConfigError, match=r"freezes stage2 above stages that move.*'frozen'"):
        assemble(config.parse(table))
