"""Strategies that extend the model, as somebody else would write them: one file each, tested =
saved = predicted, with and without the cache."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx
from tlx import registry
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ConfigError, ContractError, Interrupted, TrustError, WeightsError
from tlx.protocols import Phase
from tlx.run_one import evaluate_run
from tlx.types import FeatureSpec, Variables
from tlx.weights.export import export

SIDE = '''
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tlx.protocols import Phase
from tlx.types import FeatureSpec, Variables


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class SideTuning:
    """alpha * base + (1 - alpha) * side(x), Zhang et al. 2020; the base never moves."""

    reads_all: bool = False

    def init(self, rng, model, batch):
        width = {spec.name: spec.channels for spec in model.backbone.features}
        image = batch.inputs["image"]
        pixels = image.shape[1] * image.shape[2] * image.shape[3]
        kernel = jax.random.normal(rng, (pixels, width["pooled"])) / pixels**0.5
        own = {"alpha": jnp.zeros(()), "kernel": kernel}
        if self.reads_all:
            own["maps"] = jnp.full((width["stage1"], width["pooled"]), 0.1)
        return Variables(own, {"seen": jnp.zeros(())})

    def change_features(self, own, own_state, features, x, *, rng, mode):
        alpha = jax.nn.sigmoid(own["alpha"])
        side = jnp.tanh(x.reshape(x.shape[0], -1) @ own["kernel"])
        if self.reads_all:
            side = side + features["stage1"].mean((1, 2)) @ own["maps"]
        mixed = alpha * features["pooled"] + (1 - alpha) * side
        seen = own_state["seen"] + (1 if mode == "train" else 0)
        return {**features, "pooled": mixed}, {"seen": seen}

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/") else path.split("/")[0]

        return (Phase(name="side", steps=steps, group=group, forward=supervised, norm="frozen"),)
'''

PROMPT = '''
from dataclasses import dataclass

import jax.numpy as jnp

from tlx.protocols import Phase
from tlx.types import Variables


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Prompt:
    """A learnt frame on every picture, Bahng et al. 2022; the network never moves."""

    width: int = 2

    def init(self, rng, model, batch):
        return Variables({"frame": jnp.zeros(batch.inputs["image"].shape[1:])}, {})

    def change_inputs(self, own, own_state, x, *, rng, mode):
        height, width = x.shape[1:3]
        rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
        edge = jnp.minimum(rows, height - 1 - rows) < self.width
        edge = edge | (jnp.minimum(columns, width - 1 - columns) < self.width)
        return x + own["frame"] * edge, own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/") else path.split("/")[0]

        return (Phase(name="prompt", steps=steps, group=group, forward=supervised, norm="train"),)
'''


@pytest.fixture
def plugins(tmp_path):
    """The two files, by name."""
    (tmp_path / "side.py").write_text(SIDE)
    (tmp_path / "prompt.py").write_text(PROMPT)
    return {
        "side": {"name": f"{tmp_path / 'side.py'}:SideTuning"},
        "all": {"name": f"{tmp_path / 'side.py'}:SideTuning", "reads_all": True},
        "prompt": {"name": f"{tmp_path / 'prompt.py'}:Prompt"},
    }


@pytest.fixture
def source(tiny, tmp_path):
    tlx.run(tiny(steps=8), out=tmp_path / "source")
    return f"run:{tmp_path / 'source'}"


def right(out: Path, pictures: Path) -> float:
    """The share of test pictures that the saved model is right about."""
    held = np.load(pictures)
    names = held["class_names"][held["y_test"]]
    rows = tlx.load(out).predict(held["x_test"])
    return float(np.mean([row["class"] == name for row, name in zip(rows, names, strict=True)]))


@pytest.mark.parametrize("name", [pytest.param("side", marks=pytest.mark.slow), "all", "prompt"])
def test_tested_is_saved_is_predicted(tiny, tmp_path, plugins, source, pictures, name, capsys):
    table = tiny(weights=source, strategy=plugins[name])
    capsys.readouterr()
    result = tlx.run(table, out=tmp_path / "once")
    cached = "was computed once" in capsys.readouterr().out
    assert cached == (name != "prompt")
    again = evaluate_run(tmp_path / "once")
    for split in ("val", "test"):
        assert again[split]["loss"] == pytest.approx(result[split]["loss"], rel=1e-5)
        assert again[split]["accuracy"] == pytest.approx(result[split]["accuracy"], abs=1e-6)
    assert right(tmp_path / "once", pictures) == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    anew = tlx.run({**table, "cache_gb": 0}, out=tmp_path / "anew")
    for split in ("val", "test"):
        assert anew[split]["loss"] == pytest.approx(result[split]["loss"], rel=1e-4)
    ways = [load_file(tmp_path / way / "model/model.safetensors") for way in ("once", "anew")]
    start = load_file(tmp_path / "source/model/model.safetensors")
    for path, leaf in ways[0].items():
        np.testing.assert_allclose(leaf, ways[1][path], rtol=2e-4, atol=2e-5, err_msg=path)
        if "/backbone/" in path:
            np.testing.assert_array_equal(leaf, start[path], err_msg=path)
    own = [leaf for path, leaf in ways[0].items() if path.startswith("params/strategy/")]
    assert own
    assert all(np.any(leaf) for leaf in own)


def test_a_stopped_run_goes_on_to_the_bit(
    tiny, tmp_path, plugins, source, digests, monkeypatch, stopping_after
):
    """The state of the strategy, which counts its steps, among the rest."""
    table = tiny(weights=source, strategy=plugins["all"], eval_every=0.25)
    tlx.run(table, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping_after(patch, 3)
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "parts")
    tlx.run(table, out=tmp_path / "parts", resume=True)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    saved = load_file(tmp_path / "whole/model/model.safetensors")
    assert saved["state/strategy/seen"] > 0


def test_what_is_left_names_the_strategy(tiny, tmp_path, plugins, source, monkeypatch):
    """Nobody exports it as a plain network, and a run that starts from it says what it leaves."""
    out = tmp_path / "prompt"
    tlx.run(tiny(weights=source, strategy=plugins["prompt"], steps=4), out=out)
    about = json.loads((out / "model/model.json").read_text())
    assert about["format"] == 4
    assert about["extension"] == {"name": plugins["prompt"]["name"], "options": {}}
    with monkeypatch.context() as patch:
        patch.setenv("TLX_CACHE", str(tmp_path / "of somebody else"))
        with pytest.raises(TrustError, match=r"would run .*prompt.py:Prompt"):
            tlx.load(out)
    with pytest.raises(WeightsError, match=r"extended by its strategy .*prompt.py:Prompt"):
        export(out, "safetensors")
    start = registry.build("weights", "run", {"path": str(out)})
    assert "extended by its strategy" in start.notes[0]
    assert not [path for path in start.tensors().values if "/strategy/" in path]
    tlx.run(tiny(weights=f"run:{out}", strategy="feature_transfer", steps=2), out=tmp_path / "on")
    on, before = (load_file(tmp_path / n / "model/model.safetensors") for n in ("on", "prompt"))
    for path, leaf in on.items():
        if "/backbone/" in path:
            np.testing.assert_array_equal(leaf, before[path])


def test_a_prompt_moves_no_statistics_of_frozen_stages(tiny, tmp_path, source):
    """Behind one frozen stage, whose leaves and running statistics stay, the rest goes on."""
    strategy = f"{__file__}:HalfFrozen"
    tlx.run(tiny(weights=source, strategy=strategy), out=tmp_path / "half")
    start = load_file(tmp_path / "source/model/model.safetensors")
    for path, leaf in load_file(tmp_path / "half/model/model.safetensors").items():
        if "/backbone/stage1/" in path:
            np.testing.assert_array_equal(leaf, start[path], err_msg=path)
        elif "/backbone/" in path:
            assert np.any(leaf != start[path]), path
        elif "/strategy/" in path:
            assert np.any(leaf), path


def test_a_head_may_read_what_is_added(tiny, tmp_path, source, pictures):
    """And a teacher of the same file sees the pictures as they are."""
    strategy = f"{__file__}:Adds"
    head = {"name": "softmax", "feature": "side"}
    table = tiny(weights=source, strategy=strategy, head=head)
    result = tlx.run(table, out=tmp_path / "side")
    assert right(tmp_path / "side", pictures) == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert "side" in tlx.load(tmp_path / "side").features(np.zeros((2, 8, 8, 3), np.uint8))
    teacher = {"teacher": {"run": str(tmp_path / "side")}}
    term = [{"name": "kl", "weight": 0.5, "source": "teacher"}]
    plain = tiny(sources=teacher, divergence=term, steps=2)
    assert tlx.run(plain, out=tmp_path / "student")["steps"] == 2  # extended by its own strategy
    with pytest.raises(ConfigError, match="reads the feature 'side', which the backbone does not"):
        assemble(parse(tiny(weights=source, strategy="feature_transfer", head=head)))


def test_a_source_is_never_extended_by_the_target(tiny, source):
    experiment = assemble(parse(tiny(
        weights=source, strategy=f"{__file__}:HalfFrozen",
        divergence=[{"name": "feature_l2", "weight": 0.1}],
    )))  # fmt: skip
    assert experiment.model.extension is not None
    ((_, model),) = experiment.source_models
    assert model.extension is None


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


def both_ways(model, variables, batch, constants, *, rng, mode, progress):
    """The frame goes through the contract, and is looked at beside it."""
    found = model.apply(variables, batch, rng=rng, mode=mode)
    outputs = found.outputs + variables.params["strategy"]["frame"].mean()
    return found._replace(outputs=outputs, loss=model.head.loss(outputs, batch))


@dataclass(frozen=True)
class HalfFrozen:
    """A learnt picture on every picture, a frozen first stage, and a fault."""

    fault: str = ""

    def init(self, rng, model, batch):
        own = {"frame": jnp.zeros(batch.inputs["image"].shape[1:])}
        return Variables(own | ({"unused": jnp.ones(1)} if self.fault == "unused" else {}), {})

    def change_inputs(self, own, own_state, x, *, rng, mode):
        if self.fault == "shape":
            return x[:, :4], own_state
        if self.fault == "alone":
            return x
        if self.fault == "state":
            return x + own["frame"], {"new": 1}
        return x + own["frame" if self.fault != "name" else "frames"], own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/stage1/") else path.split("/")[0]

        forward = both_ways if self.fault == "beside" else supervised
        return (Phase(name="half", steps=steps, group=group, forward=forward),)


@dataclass(frozen=True)
class Adds:
    """A feature of its own, of which the shape of another one is a part, and a fault."""

    fault: str = ""

    @property
    def added_features(self):
        name = "pooled" if self.fault == "twice" else "side"
        return (FeatureSpec(name, "vector", 8),)

    def init(self, rng, model, batch):
        return Variables({"kernel": jax.random.normal(rng, (3, 8))}, {})

    def change_features(self, own, own_state, features, x, *, rng, mode):
        assert features["stage1"].ndim == 4
        if self.fault == "undeclared":
            return {**features, "other": features["pooled"]}, own_state
        if self.fault == "less":
            return {"side": features["pooled"]}, own_state
        return {**features, "side": features["pooled"] + x.mean((1, 2)) @ own["kernel"]}, own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/") else path.split("/")[0]

        return (Phase(name="adds", steps=steps, group=group, forward=supervised, norm="frozen"),)


@pytest.mark.parametrize(
    ("name", "fault", "match"),
    [
        ("HalfFrozen", "shape", r"`change_inputs` .* keep the form .*8,8,3.*, and comes back as"),
        ("HalfFrozen", "alone", r"`change_inputs` .* has to return \(what it changed, own_state\)"),
        ("HalfFrozen", "state", r"as the strategy's state, .* keep the form"),
        ("HalfFrozen", "name", r"`change_inputs` .* fails .*'frames'|reads own\['frames'\]"),
        ("HalfFrozen", "unused", "would train strategy/unused, which has a gradient in no phase"),
        ("HalfFrozen", "beside", r"outputs with strategy/frame, .* `change_inputs` or `change_f"),
        ("Adds", "undeclared", r"those of `added_features`, .*, and it returns .*other"),
        ("Adds", "less", r"`change_features` .* has to return the features that it was given"),
        ("Adds", "twice", r"`added_features` .*pooled is there already"),
    ],
)  # fmt: skip
def test_what_does_not_go_by_the_contract_is_refused(tiny, name, fault, match):
    strategy = {"name": f"{__file__}:{name}", "fault": fault}
    with pytest.raises(ContractError, match=match) as caught:
        assemble(parse(tiny(strategy=strategy)))
    assert __file__ in str(caught.value)
    assert str(caught.value).endswith(".")


def test_what_wraps_a_strategy_does_not_lose_its_hooks(tiny):
    strategy = {"name": "wise_ft", "of": f"{__file__}:HalfFrozen"}
    with pytest.raises(ConfigError, match="changes what the network gets or gives"):
        assemble(parse(tiny(strategy=strategy)))


@pytest.mark.slow
def test_augmented_views_are_kept_with_their_pictures(tiny, tmp_path, plugins, source, pictures):
    """What the side network sees of a view is what the backbone saw of it."""
    change = {"augmentation": ["flip"], "cache_views": 2, "steps": 24}
    table = tiny(weights=source, strategy=plugins["all"], **change)
    result = tlx.run(table, out=tmp_path / "views")
    assert right(tmp_path / "views", pictures) == pytest.approx(
        result["test"]["accuracy"], abs=1e-6
    )


@dataclass(frozen=True)
class Scaled:
    """A learnt factor on a kernel, which is small beside the file, and one on the pictures."""

    def init(self, rng, model, batch):
        return Variables({"kernel": jnp.ones(()), "pixels": jnp.ones(())}, {})

    def effective(self, params):
        scaled = dict(params["backbone"]["stage2"]["conv"])
        scaled["kernel"] = scaled["kernel"] * params["strategy"]["kernel"]
        stage = {**params["backbone"]["stage2"], "conv": scaled}
        return {**params, "backbone": {**params["backbone"], "stage2": stage}}

    def change_inputs(self, own, own_state, x, *, rng, mode):
        return x * own["pixels"], own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/") else path.split("/")[0]

        return (Phase(name="scaled", steps=steps, group=group, forward=supervised, norm="frozen"),)


def test_a_small_change_to_weights_that_is_extended_too(tiny, tmp_path, source, pictures):
    out, base = tmp_path / "scaled", tmp_path / "base.safetensors"
    base.write_bytes((tmp_path / "source/model/model.safetensors").read_bytes())
    table = tiny(weights=f"safetensors:{base}", strategy=f"{__file__}:Scaled")
    result = tlx.run(table, out=out)
    saved = load_file(out / "model/model.safetensors")
    assert {path.split("/")[1] for path in saved} == {"head", "strategy"}
    assert saved["params/strategy/kernel"] != 1
    assert saved["params/strategy/pixels"] != 1
    assert right(out, pictures) == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert evaluate_run(out)["test"]["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
