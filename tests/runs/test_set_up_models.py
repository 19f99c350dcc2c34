"""What a strategy found before it planned is part of the model that is saved: a change to the
weights, or hooks on the network, load and predict as they were tested."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ContractError
from tlx.files.stored_json import read_object
from tlx.protocols import Phase
from tlx.run_one import evaluate_run
from tlx.types import Variables


def forward(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


def group(path):
    return "frozen" if path.startswith("backbone/") else path.split("/")[0]


@dataclass(frozen=True)
class Shifts:
    """Learns a number that is added to every kernel, times `scale`, which the data say."""

    scale: float = 0.0
    way: str = "option"
    held: Any = field(default=None, compare=False)

    def setup(self, *, model, variables, batches, rng):
        mean = float(np.mean([np.mean(np.asarray(b.inputs["image"])) for b in batches()]))
        if self.way == "array":
            return replace(self, held=jnp.full(1, mean / 50))
        return replace(self, scale=mean / 50)

    def init(self, rng, model, batch):
        return Variables({"shift": [jnp.full(1, 0.05), jnp.full(1, 0.02)]}, {})

    def effective(self, params):
        scale = self.scale if self.held is None else self.held
        shift = sum(params["strategy"]["shift"]) * scale
        return {**params, "backbone": jax.tree.map(lambda leaf: leaf + shift, params["backbone"])}

    def phases(self, model, steps):
        return (Phase(name="only", steps=steps, group=group, forward=forward, norm="frozen"),)


@dataclass(frozen=True)
class Gains:
    """The feature of the head is multiplied by a learnt gain and by `scale`, which the data say."""

    scale: float = 0.0
    way: str = "option"
    held: Any = field(default=None, compare=False)

    def setup(self, *, model, variables, batches, rng):
        assert set(variables.params) == {"backbone", "head"}
        found = float(sum(np.sum(np.asarray(b.weight)) for b in batches())) / 20
        if self.way == "array":
            return replace(self, held=jnp.full(1, found))
        return replace(self, scale=found)

    def init(self, rng, model, batch):
        return Variables({"gain": jnp.ones(1)}, {})

    def change_features(self, own, own_state, features, x, *, rng, mode):
        scale = self.scale if self.held is None else self.held
        return {**features, "pooled": features["pooled"] * own["gain"] * scale}, own_state

    def phases(self, model, steps):
        return (Phase(name="only", steps=steps, group=group, forward=forward, norm="frozen"),)


@pytest.fixture
def source(tiny, tmp_path):
    tlx.run(tiny(steps=6), out=tmp_path / "source")
    return {"weights": f"run:{tmp_path / 'source'}", "seed": 4}


@pytest.mark.parametrize(
    ("name", "way", "key"),
    [("Shifts", "option", "base"), ("Shifts", "array", None), ("Gains", "option", "extension")],
)
def test_the_strategy_that_is_saved_is_the_one_set_up(
    tiny, tmp_path, source, pictures, name, way, key
):
    out = tmp_path / "run"
    strategy = {"name": f"{__file__}:{name}", "way": way}
    result = tlx.run(tiny(**source, strategy=strategy), out=out)
    about = read_object(out / "model" / "model.json", "")
    saved = {
        "base": lambda: about["base"]["strategy"][1],
        "extension": lambda: about["extension"]["options"],
    }
    if key is None:  # no option says it, so the model is whole
        assert about.get("base") is None
        assert result["setup"]["held"].startswith("arrays, sha256")
    else:
        assert saved[key]()["scale"] == result["setup"]["scale"] != 0
    with np.load(pictures) as held:
        found = tlx.load(out, trust_code=True).predict(held["x_test"])
        right = [row["class"] for row in found] == held["class_names"][held["y_test"]]
    assert np.mean(right) == pytest.approx(result["test"]["accuracy"])
    again = evaluate_run(out, trust_code=True)
    assert again["test"]["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)


def test_hooks_that_no_option_says_are_refused(tiny, source):
    strategy = {"name": f"{__file__}:Gains", "way": "array"}
    with pytest.raises(ContractError, match=r"a strategy that its options do not say, .* plain va"):
        assemble(parse(tiny(**source, strategy=strategy)))


def test_weights_that_end_early_are_enough(tiny, tmp_path):
    """Of a network whose last stage nobody read, and which the file lacks."""
    head = {"name": "softmax", "feature": "stage1"}
    tlx.run(tiny(steps=2, head=head), out=tmp_path / "short")
    table = tiny(weights=f"run:{tmp_path / 'short'}", head=head, strategy="surgical")
    experiment = assemble(parse(table))
    assert experiment.strategy.block == "stage1"
    assert set(experiment.variables.params["backbone"]) == {"stage1"}
