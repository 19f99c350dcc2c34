"""The kit tries strategies that extend the model: sound ones pass, each wrong one is told."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from tlx.protocols import Phase
from tlx.testing import failures
from tlx.types import FeatureSpec, Variables


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Side:
    """Mixes the deepest feature with one of the first map, and names another."""

    fault: str = ""

    @property
    def added_features(self):
        return (FeatureSpec("mixed", "vector", 8),)

    def init(self, rng, model, batch):
        width = {spec.name: spec.channels for spec in model.backbone.features}
        kernel = jax.random.normal(rng, (width["stage1"], width["pooled"]))
        return Variables({"kernel": kernel}, {})

    def change_features(self, own, own_state, features, x, *, rng, mode):
        side = features["stage1"].mean((1, 2)) @ own["kernel"]
        if self.fault == "noisy":
            side = side + jax.random.normal(rng, side.shape)
        if self.fault == "deaf":
            side = jax.lax.stop_gradient(side)
        mixed = 0.5 * features["pooled"] + 0.5 * side
        return {**features, "pooled": mixed, "mixed": mixed}, own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/") else path.split("/")[0]

        return (Phase(name="side", steps=steps, group=group, forward=supervised, norm="frozen"),)


@dataclass(frozen=True)
class Frame:
    """Adds a learnt picture; only the first stage is frozen."""

    def init(self, rng, model, batch):
        return Variables({"frame": jnp.zeros(batch.inputs["image"].shape[1:])}, {})

    def change_inputs(self, own, own_state, x, *, rng, mode):
        return x + own["frame"], own_state

    def phases(self, model, steps):
        def group(path):
            return "frozen" if path.startswith("backbone/stage1") else path.split("/")[0]

        return (Phase(name="frame", steps=steps, group=group, forward=supervised),)


@pytest.mark.parametrize("make", [Side, Frame])
def test_sound_ones_pass(make):
    assert not failures("strategies", make)


@pytest.mark.parametrize(
    ("fault", "told"), [("noisy", "check_eval_is_still"), ("deaf", "check_every_leaf_learns")]
)
def test_wrong_ones_are_told(fault, told):
    assert told in failures("strategies", lambda: Side(fault))
