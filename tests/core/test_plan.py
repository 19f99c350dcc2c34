"""From phases to masks, frozen prefixes and refusals."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import pytest
from tlx_image import ImageInput

from tlx import trees
from tlx.backbones.functions import wrap_functions
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Phase
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.types import unlabelled


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Fixed:
    made: tuple[Phase, ...]

    def init(self, rng, model, batch):
        raise AssertionError("not needed")

    def phases(self, model, steps):
        return self.made


@pytest.fixture(scope="module")
def model():
    backbone = ToyBackbone()
    return Model(backbone, build("heads", "softmax", {"classes": 3}), backbone.inputs)


@pytest.fixture(scope="module")
def params(model):
    batch = unlabelled({"image": jnp.zeros((2, 8, 8, 3), jnp.uint8)})
    return jax.eval_shape(model.init, jax.random.key(0), batch).params


def phase(frozen=(), **more):
    def group(path):
        return "frozen" if any(part in path for part in frozen) else path.split("/")[0]

    return Phase(name="p", steps=5, group=group, forward=supervised, **more)


def planned(model, params, *phases):
    return plan(Fixed(phases), model, params, sum(p.steps for p in phases))


def test_weight_decay_goes_to_no_bias_and_no_norm_of_a_stack_or_of_heads():
    stacked = {"kernel": jnp.ones((3, 4, 5)), "bias": jnp.ones((3, 5)), "scale": jnp.ones((3, 5))}

    def init(rng, x):
        return {
            "stack": stacked,
            "heads": {"kernel": jnp.ones((5, 2, 3)), "bias": jnp.ones((2, 3))},
        }

    def through(x, layer):
        return (
            x @ layer["kernel"] @ jnp.ones((5, 4)) * layer["scale"][:4] + layer["bias"][:4]
        ), None

    def apply(params, x):
        x = jax.lax.scan(through, x.mean((1, 2)) @ jnp.ones((3, 4)), params["stack"])[0]
        heads = params["heads"]
        made = jnp.einsum("bi,ihd->bhd", x @ jnp.ones((4, 5)), heads["kernel"]) + heads["bias"]
        return made.reshape(len(x), 6)

    backbone = wrap_functions(init, apply, ("pooled",), ImageInput(size=(8, 8)))
    model = Model(backbone, build("heads", "softmax", {"classes": 3}), backbone.inputs)
    batch = unlabelled({"image": jnp.zeros((2, 8, 8, 3), jnp.uint8)})
    params = jax.eval_shape(model.init, jax.random.key(0), batch).params
    (found,) = planned(model, params, phase())
    decaying = {path for path, decays in trees.flat(found.decays).items() if decays}
    assert decaying == {"backbone/heads/kernel", "backbone/stack/kernel", "head/kernel"}
    (found,) = planned(model, params, phase(frozen=("stack",)))
    assert set(trees.flat(found.decays)) == {
        "backbone/heads/kernel", "backbone/heads/bias", "head/kernel", "head/bias"
    }  # fmt: skip


def test_nothing_frozen(model, params):
    (found,) = planned(model, params, phase())
    assert found.model.frozen == 0
    assert all(jax.tree.leaves(found.trainable))


def test_frozen_prefix_and_multipliers(model, params):
    (found,) = planned(model, params, phase(["stage1"], lr={"backbone": 0.1}))
    assert found.model.frozen == 1
    assert not any(jax.tree.leaves(found.trainable["backbone"]["stage1"]))
    assert all(jax.tree.leaves(found.trainable["backbone"]["stage2"]))
    assert found.multipliers["backbone"]["stage1"]["conv"]["kernel"] is None
    assert found.multipliers["backbone"]["stage2"]["conv"]["kernel"] == 0.1
    assert found.multipliers["head"]["kernel"] == 1.0
    assert found.moving(params) == sum(
        leaf.size for leaf in jax.tree.leaves((params["backbone"]["stage2"], params["head"]))
    )


def test_phases_follow_each_other(model, params):
    two = planned(model, params, phase(["backbone"]), replace(phase(), name="q", steps=3))
    assert [(p.start, p.stop) for p in two] == [(0, 5), (5, 8)]
    assert two[0].model.frozen == 2


def test_a_phase_without_steps_is_left_out(model, params):
    assert len(planned(model, params, replace(phase(), steps=0), phase())) == 1


def test_refusals(model, params):
    with pytest.raises(ConfigError, match="every leaf is frozen"):
        planned(model, params, phase(["backbone", "head"]))
    with pytest.raises(ConfigError, match=r"'haed', which holds no leaf\. Groups: backbone, head"):
        planned(model, params, phase(lr={"haed": 2.0}))
    with pytest.raises(ConfigError, match="add up to 5 steps instead of 6"):
        plan(Fixed((phase(),)), model, params, 6)
    with pytest.raises(ConfigError, match="freezes stage2 above stages that move"):
        planned(model, params, phase(["stage2"]))
    (found,) = planned(model, params, phase(["stage2"], norm="frozen"))
    assert found.model.frozen == 0


def test_part_of_a_backbone_without_stages_is_refused(params):
    class Whole:
        """The toy without its stages."""

        def __init__(self):
            toy = ToyBackbone()
            self.inputs, self.features, self.modes = toy.inputs, toy.features, toy.modes
            self.leaf, self.init, self.apply = toy.leaf, toy.init, toy.apply

    backbone = Whole()
    model = Model(backbone, build("heads", "softmax", {"classes": 3}), backbone.inputs)
    with pytest.raises(ConfigError, match="only a backbone that runs in stages"):
        planned(model, params, phase(["stage1"]))
    (found,) = planned(model, params, phase(["backbone"]))
    assert found.model.frozen == 1
