"""A network that ends before its last stages computes what it always did up to there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import registry, trees
from tlx.backbones.shortened import features_by_stage, shortened
from tlx.testing.toys import ToyBackbone

KEY = jax.random.key(0)
ONE = trees.abstract(jnp.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize(
    ("backbone", "ends"), [(ToyBackbone(), 1), (registry.build("backbones", "resnet8"), 2)]
)
def test_it_computes_what_the_whole_does_up_to_there(backbone, ends):
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    whole = backbone.init(KEY, x)
    short = shortened(backbone, ends, trees.abstract(x))
    own = short.init(KEY, x)
    stages = backbone.stages[:ends]
    assert short.stages == stages
    assert {short.leaf(path).stage for path in trees.flat(own.params)} == set(stages)
    flat = trees.flat(whole)
    assert trees.flat(own).keys() < flat.keys()
    assert all(np.array_equal(leaf, flat[path]) for path, leaf in trees.flat(own).items())
    for mode in ("eval", "train"):
        _, features, state = backbone.apply_stages(
            *whole, x, start=0, stop=ends, rng=KEY, mode=mode
        )
        found, after = short.apply(*own, x, rng=KEY, mode=mode)
        assert list(found) == [spec.name for spec in short.features] == list(features)
        assert all(np.array_equal(found[name], features[name]) for name in features)
        moved, theirs = trees.flat(after), trees.flat(state)
        assert moved.keys() == trees.flat(own.state).keys()
        assert all(np.array_equal(leaf, theirs[path]) for path, leaf in moved.items())


def test_it_is_one_configuration():
    short, again = (shortened(ToyBackbone(), 1, ONE) for _ in range(2))
    assert short == again
    assert hash(short) == hash(again)
    assert features_by_stage(ToyBackbone(), ONE) == ({"stage1"}, {"stage2", "pooled"})
    with pytest.raises(KeyError):
        short.apply({}, {}, jnp.zeros((1, 8, 8, 3)), rng=KEY, mode="eval")
