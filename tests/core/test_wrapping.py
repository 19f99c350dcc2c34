"""What wrappers share: leaf paths from any containers, and kinds from names."""

from typing import NamedTuple

import pytest

from tlx import trees
from tlx.backbones.wrapping import leaf_infos, leaf_kind, nested
from tlx.errors import ContractError


class Pair(NamedTuple):
    left: int
    right: int


def test_any_containers_become_nested_dicts_and_come_back():
    tree = {"a/~/b": {"w": 1}, "list": [2, (3, None)], "pair": Pair(4, 5)}
    found = nested(tree)
    assert found == {
        "a": {"~": {"b": {"w": 1}}},
        "list": {"0": 2, "1": {"0": 3}},
        "pair": {"left": 4, "right": 5},
    }
    assert trees.flat(found) == trees.flat(tree)
    assert trees.unflat(tree, trees.flat(found)) == tree


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {"w": 1}, "a/w": {"b": 2}},
        {"a": {"w": {"b": 2}}, "a/w": 1},
        {"a": [0], "a/0": 2},
    ],
)
def test_two_things_with_one_name_are_a_sentence(tree):
    with pytest.raises(ContractError, match="two things called 'a/"):
        nested(tree)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"conv/kernel", "conv/w", "conv/weight"}, "kernel"),
        ({"conv/bias", "conv/b", "dense/qkv_bias"}, "bias"),
        ({"norm/scale", "norm/bias"}, "norm"),
        ({"norm/scale", "norm/offset"}, "norm"),
        ({"norm/gamma", "norm/beta"}, "norm"),
        ({"scale", "bias"}, "norm"),
        ({"embed/embedding", "embed/embeddings", "pos_embedding"}, "embedding"),
    ],
)
def test_names_tell_kinds(names, kind):
    assert {leaf_kind(name, names) for name in names} == {kind}


def test_a_leaf_of_no_stage_is_a_sentence():
    with pytest.raises(ContractError, match=r"'top/w' belongs to no stage.*one of bottom"):
        leaf_infos(["bottom/w", "top/w"], ("bottom",))
    assert leaf_infos(["a/w"], ("all",)) == {"a/w": ("all", "kernel", -1, ())}
