"""Which leaves move, when and how fast, under the strategies that learn from labels."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies.feature_transfer import FeatureTransfer
from tlx_strategies.finetune import Finetune
from tlx_strategies.probe_then_finetune import ProbeThenFinetune

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Strategy
from tlx.testing.compiling import quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat, groups
from tlx.types import Batch, Constants, Variables

EVERY = (FeatureTransfer(), Finetune(), ProbeThenFinetune(), ProbeThenFinetune(probe=0.01))
KEY = jax.random.key(0)
BATCH = Batch(
    {"image": np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)},
    {"label": np.zeros(4, np.int32)},
    np.arange(4),
    np.ones(4, np.float32),
)


@dataclass(frozen=True)
class MeanHead:
    """The mean of the pooled feature times one number."""

    needs: tuple[str, ...] = ("pooled",)
    selection: tuple[str, str] = ("loss", "min")

    def init(self, rng, features):
        return Variables({"gain": jnp.ones(())}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        return params["gain"] * features["pooled"].mean(-1), state

    def loss(self, outputs, batch):
        return jnp.square(outputs - batch.targets["label"])


def model(head: Any = MeanHead()) -> Model:
    backbone = ToyBackbone()
    return Model(backbone, head, backbone.inputs)


def sent(phase):
    params = jax.eval_shape(model().init, KEY, BATCH).params
    params = {**params, "divergence/x": {"w": 0}, "strategy": {"w": 0}}
    return flat(groups(params, phase.group))


@pytest.mark.parametrize("strategy", EVERY, ids=repr)
def test_phases_add_up(strategy):
    assert isinstance(strategy, Strategy)
    assert strategy.init(KEY, model(), BATCH) == Variables({}, {})
    for steps in range(1, 51):
        phases = strategy.phases(model(), steps)
        assert sum(phase.steps for phase in phases) == steps
        assert all(phase.steps > 0 for phase in phases)


@pytest.mark.parametrize("strategy", EVERY, ids=repr)
def test_no_head_no_labels_no_run(strategy):
    with pytest.raises(ConfigError, match="no head"):
        strategy.phases(model(None), 10)


def test_feature_transfer_moves_the_head_alone():
    (phase,) = FeatureTransfer().phases(model(), 10)
    assert phase.norm == "frozen"
    for path, group in sent(phase).items():
        assert group == ("frozen" if path.startswith("backbone/") else path.split("/")[0])


def test_finetune_moves_everything():
    (phase,) = Finetune(backbone_lr=0.1).phases(model(), 10)
    assert (phase.norm, dict(phase.lr)) == ("train", {"backbone": 0.1})
    for path, group in sent(phase).items():
        assert group == path.split("/")[0]


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (("stage1",), "backbone/stage1/"),
        (("*/stage2/conv/*",), "backbone/stage2/conv/"),
        (("stage*",), "backbone/"),
    ],
)
def test_finetune_keeps_what_is_named(frozen, expected):
    strategy = Finetune(frozen=frozen)
    strategy.init(KEY, model(), BATCH)
    (phase,) = strategy.phases(model(), 10)
    for path, group in sent(phase).items():
        assert (group == "frozen") == path.startswith(expected)


@pytest.mark.parametrize("wrong", ["stag1", "backbone/stage3/*", "conv"])
def test_finetune_refuses_to_keep_what_is_not_there(wrong):
    with pytest.raises(ConfigError, match=r"is no stage .* Stages: stage1, stage2\."):
        Finetune(frozen=("stage1", wrong)).init(KEY, model(), BATCH)


def test_probe_then_finetune():
    probe, rest = ProbeThenFinetune(probe=0.3, backbone_lr=0.2, head_lr=0.5).phases(model(), 10)
    assert (probe.steps, rest.steps) == (3, 7)
    assert sent(probe)["backbone/stage1/conv/kernel"] == "frozen"
    assert (probe.norm, rest.norm) == ("frozen", "frozen")
    assert dict(rest.lr) == {"backbone": 0.2, "head": 0.5}
    assert "frozen" not in sent(rest).values()
    (only,) = ProbeThenFinetune().phases(model(), 1)
    assert only.name == "finetune"


@pytest.mark.parametrize(
    "options", [{"probe": 0.0}, {"probe": 1.0}, {"backbone_lr": 0.0}, {"head_lr": -1.0}]
)
def test_refusals(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ProbeThenFinetune(**options)
    if "backbone_lr" in options:
        with pytest.raises(ConfigError, match="feature_transfer"):
            Finetune(**options)


def test_the_pass_is_the_models():
    (phase,) = Finetune().phases(model(), 1)
    variables = quick_jit(model().init)(KEY, BATCH)

    @quick_jit
    def both(variables):
        ours = phase.forward(
            model(), variables, BATCH, Constants({}, {}, {}, {}),
            rng=KEY, mode="train", progress=jnp.zeros(()),
        )  # fmt: skip
        return ours, model().apply(variables, BATCH, rng=KEY, mode="train")

    jax.tree.map(np.testing.assert_array_equal, *both(variables))
