"""What computes in bfloat16 and what does not, on the toy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.assemble import assemble
from tlx.config import parse
from tlx.devices.precision import lowered, raised
from tlx.errors import ConfigError
from tlx.testing.altered import altered
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world


def test_only_floating_numbers_are_cast_and_float32_is_left_alone():
    tree = {"a": jnp.float32(1 + 2**-12), "b": jnp.int32(300)}
    assert lowered(tree, "float32") is tree
    low = lowered(tree, "bf16")
    assert (low["a"].dtype, low["b"].dtype) == (jnp.bfloat16, jnp.int32)
    assert raised(low, "bf16")["a"].dtype == jnp.float32
    assert raised(low, "bf16")["a"] == 1


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_stages_say_the_same_in_one_pass_or_apart(frozen):
    here = world(8)
    model = replace(here.model, frozen=frozen, precision="bf16")
    how = {"rng": jax.random.key(0), "mode": "eval"}
    whole, _ = model.features(here.variables, here.batch, **how)
    known = None
    if frozen:
        known = model.frozen_features(here.variables, here.batch, rng=how["rng"])
        assert frozen == 2 or known.carry.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in known.features.values()} == {jnp.dtype("float32")}
    apart, _ = model.features(here.variables, here.batch._replace(frozen=known), **how)
    for name in whole:
        assert apart[name].dtype == jnp.float32
        np.testing.assert_array_equal(apart[name], whole[name])


def test_the_phases_and_the_source_compute_in_it_and_the_rest_does_not(tiny):
    found = assemble(parse(tiny(precision="bf16")))
    assert {planned.model.precision for planned in found.phases} == {"bf16"}
    assert found.model.precision == found.final.model.precision == "float32"
    assert found.final.model == replace(found.phases[-1].model, precision="float32")
    for leaf in jax.tree.leaves(tuple(found.variables)):
        assert leaf.dtype == jnp.float32


class Stubborn:
    """A toy that goes wrong where it is given bfloat16."""

    def __init__(self, fault):
        self.fault = fault

    def __call__(self):
        toy, fault = ToyBackbone(), self.fault

        def apply(params, state, x, *, rng, mode):
            features, state = toy.apply(params, state, x, rng=rng, mode=mode)
            if x.dtype == jnp.bfloat16:
                return fault(features, state)
            return features, state

        return altered(toy, apply=apply)


def mixed(features, state):
    raise TypeError("lax.conv requires arguments to have the same dtypes.")


def wide(features, state):
    return {**features, "stage2": features["stage2"].astype(jnp.float32)}, state


def narrow(features, state):
    return features, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (mixed, "nothing that this backbone can do: lax.conv requires arguments"),
        (wide, "it gives 'stage2' in float32 all the same"),
        (narrow, "it leaves the state 'stage1/mean' in bfloat16"),
    ],
)
def test_a_backbone_that_cannot_is_refused(tiny, monkeypatch, fault, match):
    from tlx import registry

    build = registry.build
    monkeypatch.setattr(
        registry,
        "build",
        lambda kind, *rest, **more: (
            Stubborn(fault)() if kind == "backbones" else build(kind, *rest, **more)
        ),
    )
    with pytest.raises(ConfigError, match=match):
        assemble(parse(tiny(precision="bf16")))


def test_a_precision_that_does_not_exist(tiny):
    with pytest.raises(ConfigError, match="precision: should be 'float32' or 'bf16', not \"fp16\""):
        parse(tiny(precision="fp16"))
