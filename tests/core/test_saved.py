"""A saved model predicts what evaluation computed, for pictures in whatever form they come."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from tlx_image import ImageInput
from tlx_image.decode import fit
from tlx_image.model_images import saved_images

import tlx
from tlx import registry, trees
from tlx.errors import DataError, WeightsError
from tlx.files.manifest import digest
from tlx.model import Model
from tlx.run_folder.model_folder import save_model
from tlx.types import unlabelled
from tlx.weights.saved import BATCH, load

TOYS = """
from dataclasses import dataclass
import jax, jax.numpy as jnp
from tlx.types import FeatureSpec, LeafInfo, Variables
from tlx_image import ImageInput

@dataclass(frozen=True)
class Body:
    width: int = 4
    inputs = ImageInput()
    modes = frozenset({"train", "tune", "eval"})
    features = (FeatureSpec("pooled", "vector", 4),)

    def leaf(self, path):
        return LeafInfo("all", "kernel")

    def init(self, rng, x):
        kernel = jax.random.normal(rng, (x.shape[-1], self.width))
        state = {"mean": jnp.arange(self.width) / 10.0, "rng": jax.random.fold_in(rng, 1)}
        return Variables({"kernel": kernel}, state)

    def apply(self, params, state, x, *, rng, mode):
        return {"pooled": x.mean((1, 2)) @ params["kernel"] - state["mean"]}, state

@dataclass(frozen=True)
class Top:
    classes: int
    needs = ("pooled",)
    selection = ("accuracy", "max")

    def init(self, rng, features):
        width = features["pooled"].shape[-1]
        return Variables({"kernel": jax.random.normal(rng, (width, self.classes))}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        assert inputs["image"].shape[:1] == features["pooled"].shape[:1]
        return features["pooled"] @ params["kernel"], state

    def loss(self, outputs, batch):
        label = batch.targets["label"]
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs), label[:, None], 1)[:, 0]

    def measure(self, outputs, batch):
        return {"n": batch.weight.sum()}

    def report(self, totals):
        return {"accuracy": 0.0}

    def predict(self, outputs):
        p = jax.nn.softmax(outputs)
        found = {"class": p.argmax(-1), "probability": p.max(-1), "probabilities": p}
        return {**found, "labels": (outputs >= 0).astype(int)}
"""
CLASSES = ("ant", "bee", "wasp")
INPUTS = ImageInput(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop=0.875)
CANVAS = (12, 10)


class Part:
    """A plugin as a run file names it."""

    def __init__(self, name, **options):
        self.name, self.options = name, options


@pytest.fixture
def parts(tmp_path):
    (tmp_path / "toys.py").write_text(TOYS)
    return Part(f"{tmp_path}/toys.py:Body", width=4), Part(f"{tmp_path}/toys.py:Top")


@pytest.fixture
def made(parts):
    """(model, variables) as a run has them at its end."""
    backbone, head = parts
    model = Model(
        registry.build("backbones", backbone.name, backbone.options),
        registry.build("heads", head.name, given={"classes": 3}),
        INPUTS,
    )
    picture = unlabelled({"image": jnp.zeros((1, *CANVAS, 3), jnp.uint8)})
    return model, model.init(jax.random.key(4), picture)


@pytest.fixture
def run(tmp_path, parts, made):
    write(tmp_path / "run", parts, made[1])
    return tmp_path / "run"


def write(run, parts, variables, **changes):
    given = {"classes": CLASSES, "variables": variables, **saved_images(INPUTS, CANVAS)}
    save_model(run / "model", backbone=parts[0], head=parts[1], **(given | changes))


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, *CANVAS, 3), np.uint8)


def test_it_predicts_what_evaluation_computes(run, made, pictures):
    model, variables = made
    saved = tlx.load(run)
    inputs = replace(INPUTS, canvas=CANVAS)
    assert (saved.classes, saved.model.inputs) == (CLASSES, inputs)
    assert saved.model == replace(model, inputs=inputs)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), saved.variables, variables)
    assert all(jax.tree.leaves(same))

    batch = unlabelled({"image": jnp.asarray(pictures)})
    batch = batch._replace(targets={"label": jnp.zeros(len(pictures), jnp.int32)})
    passed = jax.jit(lambda v, b: model.apply(v, b, rng=jax.random.key(0), mode="eval"))(
        variables, batch
    )
    found = saved.predict(pictures)
    assert len(found) == len(pictures)
    assert [f["class"] for f in found] == [CLASSES[i] for i in passed.outputs.argmax(-1)]
    expected = jax.nn.softmax(passed.outputs)
    np.testing.assert_allclose([f["probabilities"] for f in found], expected, atol=1e-6)
    assert isinstance(found[0]["probability"], float)
    assert set(found[0]) == {"class", "probability", "probabilities", "labels"}
    applies = np.asarray(passed.outputs[0]) >= 0
    assert found[0]["labels"] == [name for name, a in zip(CLASSES, applies, strict=True) if a]
    features = saved.features(pictures)
    assert features["pooled"].shape == (len(pictures), 4)
    np.testing.assert_allclose(features["pooled"], passed.features["pooled"], atol=1e-6)


def test_a_picture_gets_the_same_answer_alone_and_in_company(run, pictures):
    saved = load(run / "model")
    together = saved.predict(list(pictures))
    for i in (0, BATCH, len(pictures) - 1):
        (alone,) = saved.predict(pictures[i])
        assert alone["class"] == together[i]["class"]
        assert alone["probability"] == pytest.approx(together[i]["probability"], abs=1e-6)


def test_paths_pictures_and_arrays_are_the_same_to_it(run, tmp_path, pictures):
    saved = load(run)
    large = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)
    file = tmp_path / "ant.png"
    Image.fromarray(large).save(file)
    forms = [file, str(file), file.read_bytes(), Image.fromarray(large), large]
    answers = [saved.predict(form)[0] for form in forms]
    answers += saved.predict([file, large, fit(large, CANVAS, INPUTS.crop)])
    for answer in answers:
        np.testing.assert_allclose(answer["probabilities"], answers[0]["probabilities"], atol=1e-6)
    with file.open("rb") as opened:
        forms = [opened, io.BytesIO(file.read_bytes()), memoryview(file.read_bytes())]
        answers += saved.predict(iter(forms))
    answers += saved.predict([large / 255, file])  # floats and bytes beside each other
    answers += saved.predict(np.array([str(file)]))
    for answer in answers[8:]:
        np.testing.assert_allclose(answer["probabilities"], answers[0]["probabilities"], atol=1e-2)
    floats = saved.predict(pictures[:2] / 255)
    np.testing.assert_allclose(
        [f["probability"] for f in floats],
        [f["probability"] for f in saved.predict(pictures[:2])],
        atol=1e-5,
    )


def test_it_compiles_once_for_any_number_of_pictures(run, pictures):
    saved = load(run)
    for count in (2, 3, BATCH, len(pictures)):
        assert len(saved.predict(pictures[:count])) == count
    assert saved._predict._cache_size() == 1


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "list of values is empty"),
        (np.zeros((4, 4)), r"\(4, 4\) float64"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_what_is_no_picture_is_refused(run, images, words):
    saved = load(run)
    for ask in (saved.predict, saved.features):
        with pytest.raises(DataError, match=words):
            ask(images)


def test_without_a_head_there_are_features_but_no_predictions(tmp_path, parts, made, pictures):
    write(tmp_path / "bare", (parts[0], None), made[1], classes=())
    saved = load(tmp_path / "bare")
    assert saved.features(pictures[:2])["pooled"].shape == (2, 4)
    with pytest.raises(WeightsError, match=r"no head.*use features\(\)"):
        saved.predict(pictures[:2])


def test_tensors_that_are_not_the_models_are_refused_by_name(run, tmp_path, parts):
    file, about = run / "model" / "model.safetensors", run / "model" / "model.json"
    whole, sha = load_file(file), digest(file)
    kernel = whole["params/head/kernel"]
    for change, words in [
        ({"params/head/bias": kernel}, "holds 'params/head/bias', for which the model has no"),
        ({"params/head/kernel": None}, "has no 'params/head/kernel', which the model needs"),
        ({"params/head/kernel": kernel.T.copy()}, r"'params/head/kernel' is \(3, 4\) float32"),
        ({"params/head/kernel": kernel.astype(np.float64)}, r"is \(4, 3\) float64 .* float32"),
    ]:
        kept = {name: tensor for name, tensor in (whole | change).items() if tensor is not None}
        save_file(kept, file)
        text = about.read_text()
        about.write_text(text.replace(sha, digest(file)))
        with pytest.raises(WeightsError, match=words):
            load(run, trust_code=True)
        about.write_text(text)


def test_opening_a_model_trains_and_draws_nothing(run, monkeypatch):
    """The structure is computed without any number being made."""

    def drawn(*args, **kwargs):
        raise AssertionError("a number was drawn")

    normal = jax.random.normal
    monkeypatch.setattr(
        jax.random,
        "normal",
        lambda *a, **k: normal(*a, **k) if isinstance(a[0], jax.core.Tracer) else drawn(),
    )
    assert trees.count(load(run).variables.params) == 3 * 4 + 4 * 3
