"""Views: seeded, different from each other, the same for an example whatever the batch; and how a
run file names them."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tlx_strategies.views import LARGE, SMALL, recipe, two_views

from tlx.errors import ConfigError, PluginError
from tlx.testing.compiling import quick_jit
from tlx.types import Batch

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)
KEY = jax.random.key(0)
VIEWS = two_views(("crop", {"name": "flip", "probability": 0.5}), None, SMALL, LARGE)
OWN = two_views(None, None, SMALL, LARGE)


def batch(image=PICTURES, index=None):
    count = len(image)
    index = jnp.arange(count) if index is None else jnp.asarray(index)
    return Batch({"image": jnp.asarray(image)}, {}, index, jnp.ones(count))


@cache
def jitted(views):
    return quick_jit(views.draw, static_argnums=2)


def drawn(key, mode="train", fed=None, views=VIEWS):
    return np.asarray(jitted(views)(fed or batch(), key, mode))


def test_the_same_key_gives_the_same_views_and_two_that_differ():
    one, again, other = drawn(KEY), drawn(KEY), drawn(jax.random.key(1))
    assert one.shape == (2, *PICTURES.shape)
    np.testing.assert_array_equal(one, again)
    for picture in range(len(PICTURES)):
        assert (one[0, picture] != one[1, picture]).any()
        assert (one[:, picture] != other[:, picture]).any()


def test_the_published_recipe_keeps_pictures_pictures():
    one, again = drawn(KEY, views=OWN), drawn(KEY, views=OWN)
    np.testing.assert_array_equal(one, again)
    assert one.min() >= -1e-6
    assert one.max() <= 1 + 1e-6
    assert (one[0] != one[1]).any((1, 2, 3)).all()


def test_in_evaluation_views_hang_on_the_examples_number_alone():
    whole = drawn(KEY, "eval")
    order = np.asarray([3, 0, 4])
    few = drawn(jax.random.key(7), "eval", batch(PICTURES[order], order))
    np.testing.assert_array_equal(few, whole[:, order])
    assert (whole != drawn(jax.random.key(7))).any()


def test_views_that_are_drawn_later_are_others():
    first = VIEWS.draw(batch(), KEY, "eval")
    later = VIEWS.draw(batch(), KEY, "eval", number=1)
    np.testing.assert_array_equal(later[0], first[1])
    assert (np.asarray(later[1]) != np.asarray(first)).any((2, 3, 4)).all()


def test_one_channel_is_grey():
    grey = drawn(KEY, fed=batch(PICTURES[..., :1]))
    assert grey.shape == (2, *PICTURES.shape)
    np.testing.assert_array_equal(grey, np.repeat(grey[..., :1], 3, -1))


def test_a_run_file_says_otherwise_for_both_views_or_for_the_second():
    names = [[type(step).__name__ for step in steps] for steps in VIEWS.small]
    assert names == [["Crop", "Flip"]] * 2
    assert VIEWS.small == VIEWS.large
    second = two_views(None, ["flip"], SMALL, LARGE)
    assert second.large[0] == OWN.large[0]
    assert [type(step).__name__ for step in second.large[1]] == ["Flip"]
    assert two_views((), None, SMALL, LARGE).small == ((), ())
    assert hash(VIEWS) == hash(two_views(VIEWS_AS_TABLES, None, SMALL, LARGE))


VIEWS_AS_TABLES = ({"name": "crop"}, {"name": "flip", "probability": 0.5})


def test_a_recipe_leaves_out_what_never_happens():
    plain = [step["name"] for step in recipe((0.2, 1.0), (0.4, 0.4, 0.2, 0.1))]
    assert plain == ["resized_crop", "flip", "color_jitter", "grayscale"]


def test_refusals():
    with pytest.raises(PluginError, match=r"No augmentation 'flop'.* Did you mean 'flip'"):
        two_views(["flop"], None, SMALL, LARGE)
    with pytest.raises(ConfigError, match=r"strategy\.views\.1\.chance: unknown option"):
        two_views(["flip", {"name": "flip", "chance": 1.0}], None, SMALL, LARGE)
    with pytest.raises(ConfigError, match=r"strategy\.second_view\.0: .* its name or a table"):
        two_views(None, [{"probability": 1.0}], SMALL, LARGE)
    with pytest.raises(ConfigError, match=r"strategy\.views\.1: 'mixup' makes one picture of two"):
        two_views(["flip", "mixup"], None, SMALL, LARGE)
