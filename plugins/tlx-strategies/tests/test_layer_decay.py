"""Learning rates by stage: timm's numbers, explicit rates, and what has no rate."""

from dataclasses import dataclass

import jax
import pytest
from tlx_strategies import stages
from tlx_strategies.finetune import Finetune

from tlx import trees
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import Variables

KEY = jax.random.key(0)

# The `lr_scale` of timm 1.0.31, param_groups_layer_decay(vit_tiny of 4 blocks, layer_decay=0.75).
# Its last norm belongs to the last block, its head has 1.
TIMM_VIT = {
    "embed": 0.2373046875,
    "block0": 0.31640625,
    "block1": 0.421875,
    "block2": 0.5625,
    "block3": 0.75,
    "norm": 0.75,
}


def model(backbone=ToyBackbone()):
    return Model(backbone, ToyHead(), backbone.inputs)


@dataclass(frozen=True)
class Stageless:
    """The toy network without its stages."""

    inner: ToyBackbone
    inputs = ToyBackbone().inputs
    features = ToyBackbone().features
    modes = ToyBackbone().modes

    def leaf(self, path):
        return self.inner.leaf(path)

    def init(self, rng, x):
        return self.inner.init(rng, x)

    def apply(self, params, state, x, *, rng, mode):
        return self.inner.apply(params, state, x, rng=rng, mode=mode)


def multipliers(strategy, backbone):
    """Leaf path -> multiplier in the first phase, None where frozen."""
    body = jax.eval_shape(backbone.init, *stages.abstract_input(backbone)).params
    params = {"backbone": body, "head": {"kernel": jax.ShapeDtypeStruct((1, 1), "float32")}}
    (planned,) = plan(strategy, model(backbone), params, 10)
    found = trees.flat(planned.multipliers)
    return {path: found.get(path) for path in trees.flat(params)}


def test_a_vision_transformer_has_the_rates_of_timm():
    backbone = build("backbones", "vit", {"depth": 4})
    found = multipliers(Finetune(layer_decay=0.75), backbone)
    assert found.pop("head/kernel") == 1
    assert {path.split("/")[1] for path in found} == set(TIMM_VIT)
    for path, rate in found.items():
        assert rate == pytest.approx(TIMM_VIT[path.split("/")[1]], rel=1e-12)


def test_a_resnet_decays_by_stage():
    (phase,) = Finetune(layer_decay=0.5).phases(model(build("backbones", "resnet20")), 10)
    assert dict(phase.lr) == {
        "backbone/stem": 0.0625,
        "backbone/stage1": 0.125,
        "backbone/stage2": 0.25,
        "backbone/stage3": 0.5,
    }
    assert phase.group("backbone/stage1/block0/bn1/scale") == "backbone/stage1"
    assert (phase.group("head/bias"), phase.group("divergence/x/w")) == ("head", "divergence")


def test_backbone_lr_scales_what_decays_and_stage_lr_stands_as_it_is():
    (phase,) = Finetune(0.5, layer_decay=0.5, stage_lr={"stage1": 0.3}).phases(model(), 10)
    assert dict(phase.lr) == {"backbone/stage1": 0.3, "backbone/stage2": 0.25}


def test_no_decay_is_one_group():
    (phase,) = Finetune(0.5, layer_decay=1.0).phases(model(), 10)
    assert (phase.group("backbone/stage1/conv/bias"), dict(phase.lr)) == (
        "backbone",
        {"backbone": 0.5},
    )


def test_what_is_frozen_has_no_rate():
    found = multipliers(Finetune(frozen=("stage1",), layer_decay=0.5), ToyBackbone())
    assert {path: rate for path, rate in found.items() if rate is None}.keys() == {
        path for path in found if path.startswith("backbone/stage1")
    }
    assert multipliers(Finetune(frozen=("stage*",)), ToyBackbone())["head/kernel"] == 1
    vit = build("backbones", "vit", {"depth": 1})
    kept = multipliers(Finetune(norm="frozen_affine", layer_decay=0.5), vit)
    assert kept["backbone/norm/scale"] is None
    assert kept["backbone/block0/mlp/fc1/bias"] == 0.5


def test_groups_without_stages_are_those_of_the_whole():
    found = multipliers(Finetune(0.1), Stageless(ToyBackbone()))
    assert found["backbone/stage1/conv/kernel"] == 0.1


@pytest.mark.parametrize("options", [{"layer_decay": 0.5}, {"stage_lr": {"stage1": 0.5}}])
def test_a_backbone_without_stages_is_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} goes by the order .* stages"):
        Finetune(**options).phases(model(Stageless(ToyBackbone())), 10)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer_decay": 0.0}, "above 0 and at most 1, not 0.0"),
        ({"layer_decay": 1.5}, "above 0 and at most 1, not 1.5"),
        ({"stage_lr": {"stage1": 0.0}}, r"stage_lr\.stage1 .* Name the stage in frozen"),
        ({"stage_lr": {"stag1": 1.0}}, "Did you mean 'stage1'. Stages: stage1, stage2"),
        ({"stage_lr": {"stage1": 1.0}, "frozen": ("stage1",)}, "all of which is frozen"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Finetune(**options).phases(model(), 10)


def test_from_a_run_file():
    options = {"layer_decay": 0.75, "stage_lr": {"stage1": 0.5}}
    strategy = build("strategies", "finetune", options)
    assert strategy == Finetune(layer_decay=0.75, stage_lr={"stage1": 0.5})
    assert isinstance(hash(strategy), int)
    assert strategy.init(KEY, model(), {}) == Variables({}, {})
