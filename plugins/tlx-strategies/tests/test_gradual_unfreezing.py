"""Gradual unfreezing: what moves in which phase of a ResNet-20, how long, and how fast."""

import jax
import pytest
from tlx_strategies.gradual_unfreezing import GradualUnfreezing

from tlx import trees
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Strategy
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import Variables, unlabelled

KEY = jax.random.key(0)
ORDER = ("head", "stage3", "stage2", "stage1", "stem")


def model(backbone=None, head=ToyHead()):
    backbone = backbone or build("backbones", "resnet20")
    return Model(backbone, head, backbone.inputs)


@pytest.fixture(scope="module")
def params():
    batch = unlabelled({"image": jax.ShapeDtypeStruct((2, 32, 32, 3), "uint8")})
    return jax.eval_shape(model().init, KEY, batch).params


def test_one_stage_after_the_other_from_the_top(params):
    phases = plan(GradualUnfreezing(), model(), params, 50)
    assert [each.phase.name for each in phases] == list(ORDER)
    assert [each.phase.steps for each in phases] == [10] * 5
    # What is frozen is a prefix of the network: it runs in mode 'eval' and can be cached.
    assert [each.model.frozen for each in phases] == [4, 3, 2, 1, 0]
    for number, each in enumerate(phases):
        for path, moves in trees.flat(each.trainable).items():
            part, *below = path.split("/")
            assert moves == ((part if part == "head" else below[0]) in ORDER[: number + 1])
    counts = [each.moving(params) for each in phases]
    head = 64 * 3 + 3
    # Six 3x3 convolutions a stage with two numbers a channel behind each: He et al. 2015.
    stage = {c: 6 * (9 * c * c + 2 * c) - 9 * c * c // 2 * (c > 16) for c in (16, 32, 64)}
    sizes = (head, stage[64], stage[32], stage[16], 9 * 3 * 16 + 2 * 16)
    assert counts == [sum(sizes[: number + 1]) for number in range(5)]
    assert counts[-1] == 269_072 + head


def test_each_stage_learns_2_6_times_more_slowly_than_the_one_above():
    phases = GradualUnfreezing().phases(model(), 50)
    rates = {f"backbone/{name}": 2.6**-depth for depth, name in enumerate(ORDER) if depth}
    for number, each in enumerate(phases):
        moving = {f"backbone/{name}" for name in ORDER[1 : number + 1]}
        assert dict(each.lr) == pytest.approx({k: rates[k] for k in moving})
    alike = GradualUnfreezing(layer_decay=1.0).phases(model(), 50)
    assert set(alike[-1].lr.values()) == {1.0}


@pytest.mark.parametrize(
    ("last", "steps", "shares"),
    [
        (None, 50, [10, 10, 10, 10, 10]),
        (None, 52, [10, 10, 11, 10, 11]),
        (0.6, 100, [10, 10, 10, 10, 60]),
        (0.2, 50, [10, 10, 10, 10, 10]),
    ],
)
def test_the_steps_of_each_phase(last, steps, shares):
    phases = GradualUnfreezing(last=last).phases(model(), steps)
    assert [phase.steps for phase in phases] == shares


@pytest.mark.parametrize("last", [None, 0.01, 0.5, 0.99])
def test_however_few_steps_everything_moves_in_the_last(last):
    strategy, here = GradualUnfreezing(last=last), model(ToyBackbone())
    assert isinstance(strategy, Strategy)
    for steps in (1, 2, 3, 4, 5, 99):
        phases = strategy.phases(here, steps)
        assert sum(phase.steps for phase in phases) == steps
        assert all(phase.steps > 0 for phase in phases)
        assert phases[-1].name == "stage1"


def test_the_last_norm_of_a_vision_transformer_goes_with_the_last_block():
    vit = build("backbones", "vit", {"depth": 2})
    phases = GradualUnfreezing().phases(model(vit), 40)
    assert [phase.name for phase in phases] == ["head", "block1", "block0", "embed"]
    assert phases[1].lr.keys() == {"backbone/block1", "backbone/norm"}
    for phase in GradualUnfreezing(norm="frozen_affine").phases(model(vit), 40):
        assert "backbone/norm" not in phase.lr


@pytest.mark.parametrize("norm", ["train", "frozen", "recompute", "stochastic"])
def test_the_policy_holds_for_what_moves(norm):
    phases = GradualUnfreezing(norm=norm).phases(model(ToyBackbone()), 30)
    assert [phase.norm for phase in phases] == ["frozen", norm, norm]


def test_nothing_of_its_own():
    assert GradualUnfreezing().init(KEY, model(), {}) == Variables({}, {})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layer_decay": 0.0}, "layer_decay is the learning rate of a stage"),
        ({"last": 0.0}, "last is the share of the steps .* not 0.0"),
        ({"last": 1.0}, "last is the share of the steps .* not 1.0"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        GradualUnfreezing(**options)


def test_no_head_no_labels_no_run():
    with pytest.raises(ConfigError, match=r"'gradual_unfreezing' .* no head"):
        GradualUnfreezing().phases(model(head=None), 10)
