"""What a person types for a source, and what is said of what is none."""

import jax
import numpy as np
import pytest

from tlx import registry
from tlx.errors import ConfigError, PluginError
from tlx.selection.candidates import candidate, named, packaged
from tlx.testing import toys
from tlx.trees import flat
from tlx.weights.matching import match

TOY = f"{toys.__file__}:ToyBackbone"


def test_every_packaged_source_is_found():
    assert "resnet20-cifar10" in packaged()
    assert list(named(None)) == list(packaged())


def test_folders_are_left_out_where_that_leaves_names_apart():
    assert list(named(["hf:timm/resnet18", "a/b.py:C=none"])) == ["hf:timm/resnet18", "b.py:C=none"]
    assert named(["resnet20", "a=x/one.th"]) == {"resnet20": "resnet20", "a=one.th": "a=x/one.th"}
    both = ["a=x/one.th", "a=y/one.th"]
    assert named(both) == {text: text for text in both}
    with pytest.raises(ConfigError, match="named twice"):
        named(["resnet20", "resnet20"])


@pytest.mark.parametrize("text", ["resnet20", "resnet20-cifar10", "resnet20=resnet20-cifar10"])
def test_three_ways_to_the_packaged_source(text):
    found = candidate(text, "mine")
    theirs = registry.build("weights", "resnet20-cifar10").tensors().values
    ours = flat(found.source.variables)
    assert found.accuracy == pytest.approx(0.894)
    assert found.parameters == 269_072
    assert found.source.classes[0] == "airplane"
    assert set(ours) == set(theirs)
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path])


def test_random_numbers_have_no_head():
    found = candidate(f"{TOY}=none", "toy")
    assert found.source.model.head is None
    assert found.accuracy is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.source.variables))


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("resnet5", ConfigError, "is no source.*Did you mean 'resnet50'"),
        ("resnet50", ConfigError, "No packaged weights fit the backbone 'resnet50'"),
        ("resnet5=none", PluginError, "Did you mean 'resnet50'"),
    ],
)
def test_what_is_no_source_is_refused(text, error, sentence):
    with pytest.raises(error, match=sentence):
        candidate(text, text)


def test_a_source_loads_whole_without_being_initialised():
    """As it would into numbers that are there."""
    found = candidate("resnet20", "mine").source
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), found.variables)
    wanted, _ = match(registry.build("weights", "resnet20-cifar10").tensors(), fresh)
    for path, leaf in flat(wanted).items():
        np.testing.assert_array_equal(leaf, flat(found.variables)[path])
