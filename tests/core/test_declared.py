"""What plugins say of themselves: each slip is told before anything is computed with it."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tlx_data.image_info import image_info
from tlx_image import ImageInput

from tlx.contracts import declared
from tlx.data import splits
from tlx.data.inputs import trained_inputs
from tlx.errors import ConfigError, ContractError
from tlx.protocols import Phase
from tlx.types import FeatureSpec, Tensors

INFO = image_info("made", (8, 8, 3), ("a", "b"), {"train": 6, "val": 2, "test": 2}, "v1")
PHASE = Phase(name="one", steps=3, group=str, forward=print, lr={"head": 2})


@pytest.mark.parametrize(
    ("fault_of", "fine"),
    [
        (declared.fault_of_inputs, ImageInput(size=(8, 8))),
        (declared.fault_of_inputs, ImageInput(size=(np.int64(8), 8), mean=(np.float32(0.5),) * 3)),
        (declared.fault_of_features, (FeatureSpec("map", "map", 4, 1),)),
        (declared.fault_of_info, INFO),
        (declared.fault_of_info, image_info("made", None, (), {"train": 6}, "v1", ("x",))),
        (declared.fault_of_phase, PHASE),
        (declared.fault_of_selection, ("accuracy", "max")),
        (declared.fault_of_tensors, Tensors({"w": np.zeros(3)}, "made")),
    ],
)
def test_what_is_as_the_contract_says(fault_of, fine):
    assert fault_of(fine) == ""


@pytest.mark.parametrize(
    ("fault_of", "wrong", "said"),
    [
        (declared.fault_of_inputs, None, "not a NoneType"),
        (declared.fault_of_inputs, (ImageInput(), 3), "not a tuple"),
        (declared.fault_of_inputs, {}, "no port"),
        (declared.fault_of_inputs, {"image": 3}, "'image' of them has to be an input"),
        (declared.fault_of_features, FeatureSpec("map", "map", 4, 1), "a tuple of tlx"),
        (declared.fault_of_features, (), "a tuple of tlx"),
        (declared.fault_of_features, (FeatureSpec("map", "maps", 4),), "one of"),
        (declared.fault_of_features, (FeatureSpec("map", "map", 4.0),), "4.0 channels"),
        (declared.fault_of_info, {"name": "x"}, "not a dict"),
        (declared.fault_of_info, replace(INFO, fields={"image": 3}), "'image' is 3, which has no"),
        (declared.fault_of_info, replace(INFO, fields=3), "fields are 3"),
        (declared.fault_of_info, replace(INFO, targets=("mask",)), "target 'mask' is none of its"),
        (
            declared.fault_of_info,
            image_info("x", None, (0, 1), {}, ""),
            r"\(0, 1\) of its field 'lab",
        ),
        (declared.fault_of_info, replace(INFO, splits={"train": 2.5}), "how many examples"),
        (declared.fault_of_info, replace(INFO, splits=["train"]), "how many examples"),
        (declared.fault_of_info, replace(INFO, fingerprint=None), "fingerprint is None"),
        (declared.fault_of_phase, "one", "tlx.protocols.Phase, not 'one'"),
        (declared.fault_of_phase, replace(PHASE, steps=2.5), "whole number"),
        (declared.fault_of_phase, replace(PHASE, lr={"head": ()}), "a number a group"),
        (declared.fault_of_phase, replace(PHASE, norm="froze"), "'froze'"),
        (declared.fault_of_phase, replace(PHASE, group="head"), "have to be functions"),
        (declared.fault_of_selection, None, "not None"),
        (declared.fault_of_selection, ("accuracy", "maximum"), "not .'accuracy', 'maximum'"),
        (declared.fault_of_tensors, {"w": np.zeros(3)}, "not a dict"),
        (declared.fault_of_tensors, Tensors(np.zeros, "made"), "arrays by name"),
        (declared.fault_of_tensors, Tensors({"w": [1.0]}, "made"), "'w' is .1.0."),
        (declared.fault_of_tensors, Tensors({}, None), "origin is None"),
    ],
)
def test_a_slip_is_in_words(fault_of, wrong, said):
    assert re.search(said, fault_of(wrong)), fault_of(wrong)


def test_inputs_are_looked_at_before_they_are_used():
    def given(own, theirs=None):
        source = SimpleNamespace(tensors=None, input=theirs) if theirs else None
        return trained_inputs(SimpleNamespace(inputs=own), source, {"mean": (0.5, 0.5, 0.5)})

    with pytest.raises(ContractError, match=r"`inputs` of the backbone .* not a NoneType"):
        given(None)
    with pytest.raises(ContractError, match=r"`input` of the weights .* not a tuple"):
        given(ImageInput(), (ImageInput(),))
    with pytest.raises(ConfigError, match=r"weights.input.std: 2 numbers for pictures of 3"):
        given(ImageInput(std=(0.5, 0.5)))


class Part:
    """A split that is wrong in one way."""

    def __init__(self, way):
        self.way = way
        if way == "labels":
            self.labels = lambda: np.arange(6)
        if way == "few":
            self.labels = np.arange(5)

    def __len__(self):
        return 2.5 if self.way == "length" else 6

    def __getitem__(self, index):
        if self.way == "list":
            return [np.zeros((8, 8, 3), np.uint8), 0]
        return {} if self.way == "empty" else {"image": np.zeros((8, 8, 3), np.uint8), "label": 0}


class Made:
    """A source of such splits."""

    def __init__(self, way):
        self.way = way
        self.info = replace(INFO, splits={"train": 2.5} if way == "info" else INFO.splits)

    def split(self, name):
        return None if self.way == "none" else Part(self.way)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("info", "`info` of the data .* its contract says: its splits"),
        ("none", "The split 'train' of the data fails .*NoneType"),
        ("length", "The split 'train' of the data fails .*'float'"),
        ("labels", "`labels` of the split 'train' .* a label for each of 6"),
        ("few", "`labels` of the split 'train' .* a label for each of 6"),
        ("list", "Example 0 of the split 'train' .* a mapping with 'label' in it, .* a list of 2"),
        ("empty", "Example 0 of the split 'train' .* a mapping with 'label' in it"),
    ],
)
def test_a_source_of_data_that_is_wrong(way, said):
    with pytest.raises(ContractError, match=said):
        splits.cut(Made(way), seed=0)
