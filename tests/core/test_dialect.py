"""The table is read both ways, and a name means one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.contracts.dialect import Dialect, Row

ROWS = (
    Row(
        "layer{s}.{b}.conv{n}.weight", "params/backbone/stage{s}/block{b}/conv{n}/kernel", "kernel"
    ),
    Row("enc.{s}.{b}.w", "params/backbone/stage{s+1}/block{b}/bias"),
    Row("tied.{n}.{n}", "state/backbone/tied{n}"),
    Row("b", "params/backbone/b"),
    Row("b", "params/backbone/c", "one"),
    Row("also_b", "params/backbone/b"),
)
TABLE = Dialect("t", ROWS, ignored=("*.counter", "junk"))


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("layer2.10.conv1.weight", ["params/backbone/stage2/block10/conv1/kernel"]),
        ("model.layer1.0.conv2.weight", []),
        ("enc.0.3.w", ["params/backbone/stage1/block3/bias"]),
        ("b", ["params/backbone/b", "params/backbone/c"]),
        ("tied.4.4", ["state/backbone/tied4"]),
        ("tied.4.5", []),
        ("layer2.x.conv1.weight", []),
        ("layer2.01.conv1.weight", []),
        ("layer2.١.conv1.weight", []),
        ("xlayer2.1.conv1.weight", []),
        ("layer2.1.conv1.weight.more", []),
        ("other.b", []),
    ],
)
def test_names_become_leaf_paths(name, paths):
    assert [path for path, _ in TABLE.leaves(name)] == paths


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("params/backbone/stage2/block0/conv3/kernel", "layer2.0.conv3.weight"),
        ("params/backbone/stage1/block3/bias", "enc.0.3.w"),
        ("params/backbone/stage0/block3/bias", None),
        ("params/backbone/b", "b"),
        ("params/backbone/c", None),
        ("params/backbone/nothing", None),
    ],
)
def test_leaf_paths_become_names(path, name):
    named = TABLE.name_of(path)
    assert (named and named[0]) == name


def test_a_whole_model_says_more_before_the_names_of_its_body_than_before_its_head():
    rows = (Row("stem", "params/backbone/stem"), Row("fc", "params/head/kernel"))
    whole = Dialect("w", rows, root="net.")
    paths = ("params/backbone/stem", "params/head/kernel")
    assert [whole.name_of(path)[0] for path in paths] == ["net.stem", "fc"]
    assert whole.leaves("net.stem") == ()


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**8))
def test_there_and_back(s, b, n):
    for name in (f"layer{s}.{b}.conv{n}.weight", f"enc.{s}.{b}.w"):
        ((path, _),) = TABLE.leaves(name)
        named = TABLE.name_of(path)
        assert named is not None
        assert named[0] == name


def test_what_has_no_meaning():
    assert TABLE.ignores("module.layer1.counter")
    assert TABLE.ignores("junk")
    assert not TABLE.ignores("layer1.count")
