"""Weights that are not what they are taken for: a naive script uses them, tlx does not."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file, save_file

import tlx
from tlx import config
from tlx.assemble import assemble
from tlx.errors import WeightsError
from tlx.testing.toys import ToyBackbone
from tlx.training.best_step import ahead
from tlx.trees import flat, unflat
from tlx.types import Variables
from tlx.weights import saved

KEY = jax.random.key(0)
TOY = ToyBackbone(dropout=0.0)


@pytest.fixture(scope="module")
def source():
    """Backbone variables as if they were learnt."""
    params, state = TOY.init(jax.random.key(7), jnp.zeros((1, 8, 8, 3)))
    return Variables(params, jax.tree.map(lambda leaf: leaf + 0.5, state))


@pytest.fixture
def file(source, tmp_path):
    """`file(**leaves)`: the source as a file of weights, leaves replaced; as `[weights]`."""

    def file(change=lambda leaves: leaves, **keys):
        named = {p.replace("/", "/backbone/", 1): np.array(v) for p, v in flat(source).items()}
        save_file(change(named), tmp_path / "source.safetensors")
        return {"name": f"safetensors:{tmp_path / 'source.safetensors'}", **keys}

    return file


def features(variables, image):
    """Of pictures that are normalised already."""
    found, _ = TOY.apply(*variables, image, rng=KEY, mode="eval")
    return np.asarray(found["pooled"])


def test_weights_that_match_in_part_are_half_random(tiny, file, source, tmp_path):
    """One prefix is another one's, and a dict takes what it gets."""

    def renamed(leaves):
        return {name.replace("stage2", "layer2"): leaf for name, leaf in leaves.items()}

    weights = file(renamed)
    held = load_file(tmp_path / "source.safetensors")
    fresh = Variables(*TOY.init(KEY, jnp.zeros((1, 8, 8, 3))))
    theirs = {name.replace("/backbone", ""): leaf for name, leaf in held.items()}
    naive = {path: theirs.get(path, leaf) for path, leaf in flat(fresh).items()}
    image = jax.random.normal(KEY, (4, 8, 8, 3))
    assert not np.allclose(features(unflat(fresh, naive), image), features(source, image))
    with pytest.raises(WeightsError, match=r"6 leaves are missing(?s:.*)stage2/conv/bias") as said:
        assemble(config.parse(tiny(weights=weights)))
    assert "layer2" in str(said.value)


def test_the_sources_head_answers_for_other_classes(tiny, file, source):
    """As many classes as before, so that everything fits, and they mean something else."""
    head = {"kernel": np.ones((8, 3), np.float32), "bias": np.float32([9, 0, 0])}

    def with_head(leaves):
        return leaves | {f"params/head/{name}": leaf for name, leaf in head.items()}

    naive = features(source, jnp.zeros((5, 8, 8, 3))) @ head["kernel"] + head["bias"]
    assert naive.argmax(1).tolist() == [0] * 5
    experiment = assemble(config.parse(tiny(weights=file(with_head))))
    found = experiment.variables.params
    assert not np.allclose(found["head"]["kernel"], 1)
    assert not np.allclose(found["head"]["bias"][0], 9)
    for path, leaf in flat(source.params).items():
        assert np.array_equal(flat(found["backbone"])[path], leaf), path
    assert any(leaf.path.startswith("params/head/") for leaf in experiment.report.initialised)
    kept = assemble(config.parse(tiny(weights=file(with_head, head="keep")))).variables.params
    assert np.array_equal(kept["head"]["bias"], head["bias"])


def test_pictures_normalised_otherwise_than_the_weights_were(
    tiny, file, source, pictures, tmp_path
):
    """The weights saw pixels minus a mean, in BGR; the script divides by 255."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    image = np.load(pictures)["x_test"][:6]
    right = features(source, jnp.float32((image[..., ::-1] / 255 - mean) / std))
    naive = features(source, jnp.float32(image / 255))
    assert np.abs(right - naive).max() > 0.1
    said = {"mean": list(mean), "std": list(std), "order": "bgr"}
    table = tiny(weights=file(input=said), strategy="feature_transfer", steps=2)
    tlx.run(table, out=tmp_path / "run")
    found = saved.load(tmp_path / "run").features(list(image))["pooled"]
    np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)


def test_a_checkpoint_without_statistics_or_head(tiny, source, tmp_path):
    """`save(params)` is what comes to mind, and statistics are no parameters."""
    image = jax.random.normal(KEY, (4, 8, 8, 3))
    save_file({p: np.asarray(v) for p, v in flat(source.params).items()}, tmp_path / "naive")
    params = unflat(source.params, load_file(tmp_path / "naive"))
    fresh = TOY.init(KEY, image)
    naive = Variables(params, fresh.state)
    assert np.abs(features(naive, image) - features(source, image)).max() > 0.1
    out = tmp_path / "run"
    tlx.run(tiny(steps=3), out=out)
    kept = load_file(out / "model" / "model.safetensors")
    names = {name.rsplit("/", 1)[-1] for name in kept if name.startswith("state/backbone/")}
    assert names == {"mean", "var"}
    assert {"params/head/kernel", "params/head/bias"} <= kept.keys()
    assert any(leaf.any() for name, leaf in kept.items() if name.endswith("/mean"))


def test_a_metric_that_is_nan_is_kept_as_the_best(tmp_path):
    """A manager that keeps the best one by a metric: here the third is not a number."""
    best, at = -np.inf, None
    for step, value in enumerate((0.5, 0.9, np.nan, 0.7)):
        if not value <= best:  # as good a way as any to say 'better'
            best, at = value, step
    assert at == 3, "what comes after a NaN is better than it, whatever it is"
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, best_fn=lambda metrics: metrics["accuracy"], best_mode="max"
    )
    with ocp.CheckpointManager(tmp_path / "naive", options=options) as manager:
        for step, value in enumerate((0.5, 0.9, float("nan"), 0.7)):
            args = ocp.args.StandardSave({"w": jnp.full(2, float(step))})
            manager.save(step, args=args, metrics={"accuracy": value})
        manager.wait_until_finished()
        naive = manager.all_steps()
    assert 1 not in naive, f"0.9 is the best of them, and what is left is {naive}"

    so_far, loss, chosen = -np.inf, np.inf, None
    for step, value in enumerate((0.5, 0.9, np.nan, 0.7)):
        if ahead("max", value, 1 - value, so_far, loss):
            so_far, loss, chosen = value, 1 - value, step
    assert chosen == 1
