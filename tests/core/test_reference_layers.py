"""Layers of the original by the names of their tensors."""

import pytest

from tlx.contracts.dialect import Dialect, Row
from tlx.weights.reference_layers import Place, homes, layer_of, translated

DIALECT = Dialect(
    "test",
    (
        Row("stem.weight", "params/backbone/stem/conv/kernel", "kernel"),
        Row("stem.bias", "params/backbone/stem/norm/bias"),
        Row("stem.bias", "state/backbone/stem/norm/var", "unit"),
        Row("layer{s}.{b}.conv.weight", "params/backbone/stage{s}/block{b}/conv/kernel", "kernel"),
        Row("layer{s}.{b}.bn.weight", "params/backbone/stage{s}/block{b}/bn/scale"),
        Row("layer{s}.{b}.bn.running_var", "state/backbone/stage{s}/block{b}/bn/var"),
        *(
            Row("attn.qkv.weight", f"params/backbone/attn/{name}/kernel", "kernel", (n, 3))
            for n, name in enumerate("qkv")
        ),
        Row("attn.proj.weight", "params/backbone/attn/out/kernel", "kernel"),
        Row("fc.weight", "params/head/kernel", "kernel"),
        Row("fc.bias", "params/head/bias"),
    ),
)
TENSORS = (
    "module.stem.weight", "module.stem.bias", "module.layer1.0.conv.weight",
    "module.layer1.0.bn.weight", "module.layer1.0.bn.running_var",
    "module.layer1.0.bn.num_batches_tracked", "module.layer1.1.conv.weight",
    "module.attn.qkv.weight", "module.attn.proj.weight", "module.fc.weight", "module.fc.bias",
)  # fmt: skip
HOMES = homes(TENSORS, DIALECT)
LAYERS = (
    "stem/conv", "stem/norm", "stem", "stage1/block0/conv", "stage1/block0/bn", "stage1/block0",
    "stage1/block1/conv", "stage1/block1", "stage1", "attn/q", "attn/k", "attn/v", "attn/out",
    "attn", "pooled", "head",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("stage1/block0", "stage1/block0"),
        ("pooled", "pooled"),
        ("layer1.0.conv", "stage1/block0/conv"),
        ("module.layer1.0.conv", "stage1/block0/conv"),
        ("layer1.0.bn", "stage1/block0/bn"),
        ("layer1.0", "stage1/block0"),
        ("layer1", "stage1"),
        ("attn", "attn"),
        ("attn.proj", "attn/out"),
        ("fc", "head"),
    ],
)
def test_a_layer_is_where_its_tensors_are(name, layer):
    found = translated(name, HOMES, LAYERS)
    assert found == Place(layer, block=name in ("layer1.0", "layer1"))


def test_a_convolution_with_a_folded_norm_ends_where_its_bias_goes():
    found = translated("stem", HOMES, [x for x in LAYERS if x != "stem"])
    assert found == Place("stem/norm", block=False)


def test_a_block_that_holds_a_part_of_ours_is_none():
    rows = tuple(
        Row(f"outer.{theirs}.weight", f"params/backbone/block/{ours}/kernel")
        for theirs, ours in (("half.0", "conv"), ("half.1", "norm"), ("last", "out"))
    )
    layers = ("block/conv", "block/norm", "block/out", "block")
    filled = homes([row.theirs for row in rows], Dialect("d", rows))
    assert translated("outer", filled, layers) == Place("block", block=True)
    assert translated("outer.half", filled, layers) is None


@pytest.mark.parametrize("name", ["attn.qkv", "relu", "layer", "layer2", ""])
def test_what_is_no_single_layer_is_none(name):
    assert translated(name, HOMES, LAYERS) is None


def test_without_a_dialect_names_are_paths():
    assert translated("stage1", homes(TENSORS, None), LAYERS) == Place("stage1", block=False)
    assert translated("layer1", homes(TENSORS, None), LAYERS) is None


def test_the_layer_of_a_leaf():
    assert layer_of("params/backbone/stage1/block0/conv/kernel") == "stage1/block0/conv"
    assert layer_of("state/backbone/stem/norm/var") == "stem/norm"
    assert layer_of("params/head/kernel") == "head"
