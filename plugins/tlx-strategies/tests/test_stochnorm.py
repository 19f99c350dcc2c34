"""StochNorm: fine-tuning by name, with chance in the norms while training and none afterwards."""

import inspect

import jax
import numpy as np
import pytest
from tlx_strategies.finetune import Finetune
from tlx_strategies.stochnorm import stochnorm

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Strategy
from tlx.registry import build
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world
from tlx.types import Constants


def test_it_is_fine_tuning_with_another_policy():
    assert stochnorm() == Finetune(norm="stochastic") == build("strategies", "stochnorm")
    options = {"backbone_lr": 0.1, "frozen": ("stage1",), "layer_decay": 0.5}
    assert stochnorm(**options) == Finetune(norm="stochastic", **options)
    assert isinstance(stochnorm(), Strategy)
    ours, theirs = (inspect.signature(make).parameters for make in (stochnorm, Finetune))
    assert all(theirs[name].default == option.default for name, option in ours.items())


def test_wrong_options_are_refused_as_in_fine_tuning():
    with pytest.raises(ConfigError, match="backbone_lr"):
        stochnorm(backbone_lr=0.0)


def test_chance_while_training_and_none_in_evaluation():
    here = world(8)
    toy = ToyBackbone(size=(8, 8), dropout=0.0)
    model = Model(toy, here.model.head, here.model.inputs)
    (planned,) = plan(stochnorm(), model, here.variables.params, 10)

    def run(mode):
        @quick_jit
        def passed(key):
            return planned.phase.forward(
                planned.model, here.variables, here.batch, Constants({}, {}, {}, {}),
                rng=key, mode=mode, progress=0.5,
            ).features["pooled"]  # fmt: skip

        return np.stack([passed(jax.random.key(seed)) for seed in range(4)])

    drawn, still = run("train"), run("eval")
    assert (drawn != drawn[0]).any()
    assert (still == still[0]).all()
