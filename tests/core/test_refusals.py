"""What cannot work is said before the first step, in a sentence."""

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tlx_data.image_info import image_info

from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ConfigError, TlxError
from tlx.planning import batch_sizes, refusals


def words_of(*, outputs, domain_features):
    return outputs.mean()


def of_labels(*, outputs, batch):
    return outputs.mean()


class Recorded:
    def record(self, *, features):
        return features["pooled"]

    def __call__(self, *, features, recorded):
        return (features["pooled"] - recorded).mean()


def refused(tiny, match, **changes):
    with pytest.raises(TlxError, match=match) as caught:
        assemble(parse(tiny(**changes)))
    assert re.search(r"\.$", str(caught.value)), "an error is a sentence"


def test_what_would_have_no_effect(tiny, tmp_path):
    probe = {"strategy": "feature_transfer"}
    l2 = [{"name": "l2", "weight": 0.1}]
    refused(tiny, "'l2' would have no effect: it depends on the backbone", **probe, divergence=l2)
    solved = {"strategy": {"name": "feature_transfer", "solver": "newton"}}
    refused(tiny, "divergence 'l2' would have no effect: every phase", **solved, divergence=l2)
    refused(tiny, "The augmentations would have no effect", **solved, augmentation=["flip"])
    balanced = {**tiny()["data"], "sampling": "balanced"}
    refused(tiny, r"\[data\] sampling = .balanced. would have no effect", **solved, data=balanced)
    # In a phase after the solved one it has.
    later = {"strategy": {"name": "probe_then_finetune", "solver": "newton"}}
    assert assemble(parse(tiny(**later, divergence=l2))).terms


def test_mixed_pictures_beside_what_wants_one_label_or_one_picture(tiny):
    twice = ["flip", "mixup", "cutmix"]
    refused(tiny, "'mixup' makes one picture of two, and 'cutmix' would", augmentation=twice)
    mixup = {"augmentation": ["mixup"]}
    blind = {"strategy": {"name": "masked", "patch": 4}, "head": "none"}
    refused(tiny, "the strategy 'masked' learns without labels", **mixup, **blind)
    refused(tiny, "cache_views keeps what the network says", **mixup, cache_views=2)
    recorded = [{"name": f"{__file__}:Recorded", "weight": 0.1}]
    refused(tiny, "asks for 'recorded', which is about the first", **mixup, divergence=recorded)
    labels = [{"name": f"{__file__}:of_labels", "weight": 0.1}]
    refused(tiny, "asks for 'batch', which is about the first", **mixup, divergence=labels)
    solved = {"strategy": {"name": "feature_transfer", "solver": "newton"}}
    refused(tiny, "The augmentations would have no effect", **solved, **mixup)


def test_a_domain_that_is_not_there(tiny):
    coral = [{"name": "coral", "weight": 0.1}]
    refused(tiny, r"no second stream of pictures. Give it a \[domain\] table", divergence=coral)


@pytest.mark.parametrize(("key", "value"), [("shots", 3), ("limit", 3), ("sampling", "balanced")])
def test_a_domain_is_not_cut_by_labels(tiny, pictures, key, value):
    domain = {"name": "npz", "path": str(pictures), key: value}
    refused(tiny, f"domain.{key}: the labels of a domain are not used", domain=domain)


def test_outputs_without_a_head(tiny):
    js = [{"name": "js", "weight": 0.1}]
    masked = {"strategy": {"name": "masked", "patch": 4}, "head": "none"}
    refused(tiny, "'js' asks for 'outputs', and this run has no head", **masked, divergence=js)


def test_a_source_that_the_strategy_brings_and_the_file_names(tiny, tmp_path):
    distill = {"name": "distill", "teacher": str(tmp_path)}
    refused(
        tiny, r"brings a source 'teacher' along, and \[sources.teacher\] names another",
        strategy=distill, sources={"teacher": str(tmp_path)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ({}, r"sources.a: give either run"),
        ({"run": "r", "backbone": "resnet20", "weights": "w"}, r"sources.a: give either run"),
        ({"backbone": "resnet8"}, r"sources.a: a backbone and its weights go together.*packaged"),
        ({"backbone": "resnet8", "weights": "none"}, r"sources.a.weights: .*learnt nothing"),
    ],
)
def test_a_source_is_a_run_or_a_backbone_with_weights(tiny, source, match):
    with pytest.raises(ConfigError, match=match):
        parse(tiny(sources={"a": source}))


IN_PARTS = {
    "cka": {"divergence": [{"name": "cka", "weight": 1.0}]},
    "bss": {"divergence": [{"name": "bss", "weight": 1.0}]},
    "simclr": {"strategy": "simclr", "head": "none"},
    "dino": {"strategy": "dino", "head": "none"},
    "wise_ft": {"strategy": {"name": "wise_ft", "of": "vicreg"}, "head": "none"},
}


@pytest.mark.parametrize("name", IN_PARTS)
def test_what_needs_a_batch_whole(tiny, name):
    step = {"name": "jit", "accumulate": 2}
    match = f"in parts, and the .* '{name}' has to see it whole: .*Leave accumulate out"
    refused(tiny, match, step=step, **IN_PARTS[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"accumulate": 3}, "3 equal parts, and a batch of 10 .* a multiple of 3, such as 9"),
        ({"accumulate": 0}, "accumulate is the number of parts .* 1 or more, not 0"),
    ],
)
def test_parts_of_a_batch_that_are_none(tiny, options, match):
    refused(tiny, match, step={"name": "jit", **options})


def test_what_adds_up_goes_through_in_parts(tiny):
    l2 = [{"name": "l2", "weight": 0.1}]
    found = assemble(parse(tiny(step={"name": "jit", "accumulate": 5}, divergence=l2)))
    assert found.step.accumulate == 5


TOO_FEW = {
    "simclr": ({"strategy": "simclr", "head": "none"}, 1),
    "barlow_twins": ({"strategy": "barlow_twins", "head": "none"}, 1),
    "vicreg": ({"strategy": "vicreg", "head": "none"}, 1),
    "byol": ({"strategy": "byol", "head": "none"}, 1),
    "dino": ({"strategy": "dino", "head": "none"}, 1),
    "wise_ft": ({"strategy": {"name": "wise_ft", "of": "simclr"}, "head": "none"}, 1),
    "cka": ({"divergence": [{"name": "cka", "weight": 1.0}]}, 3),
    "bss": ({"divergence": [{"name": "bss", "k": 3, "weight": 1.0}]}, 2),
}


@pytest.mark.parametrize("name", TOO_FEW)
def test_a_batch_in_which_there_is_nothing_to_compare(tiny, name):
    changes, size = TOO_FEW[name]
    match = f"'{name}' compares the examples .* batch_size is {size}. Set batch_size to {size + 1}"
    refused(tiny, match, **{"batch_size": size, **changes})


def test_parts_of_a_batch_in_which_there_is_nothing_to_compare(tiny):
    byol = {"strategy": "byol", "head": "none", "step": {"name": "jit", "accumulate": 10}}
    refused(tiny, "accumulate = 10 computes in parts. Set batch_size to 20 or", **byol)


@dataclass(frozen=True)
class Compares:
    smallest_batch: int = 3

    def init(self, rng, model, batch):
        raise NotImplementedError

    def phases(self, model, steps):
        raise NotImplementedError


@dataclass(frozen=True)
class Distance:
    smallest_batch: int = 3


def test_splits_in_which_there_is_nothing_to_compare():
    """A divergence is of training batches alone; a strategy's loss is of the others, too."""
    step: Any = Headlong()

    def check(thing, train, val, test, domain=None):
        splits: Any = SimpleNamespace(train=range(train), val=range(val), test=range(test))
        other: Any = SimpleNamespace(train=range(domain)) if domain is not None else None
        batch_sizes.too_few(step, 4, {"the thing": thing}, splits, other)

    check(Distance(), 3, 1, 1, 3)
    check(Compares(), 3, 3, 3)
    for thing, counts, which in (
        (Distance(), (2, 9, 9), "training split has 2"),
        (Distance(), (9, 9, 9, 2), "[domain] has 2"),
        (Compares(), (9, 1, 9), "validation split has 1"),
        (Compares(), (9, 9, 2), "test split has 2"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"needs 3 or more; the {which}.")):
            check(thing, *counts)


@pytest.mark.parametrize(
    ("labels", "classes"), [(np.linspace(0, 1, 5), ()), (np.eye(3, dtype=int), ("a", "b", "c"))]
)
def test_classes_that_cannot_be_drawn_equally_often(labels, classes):
    info = image_info("some", (8, 8, 3), classes, {"train": len(labels)}, "f")
    with pytest.raises(ConfigError, match=r"balanced.* one class per example.*Remove sampling\.$"):
        refusals.sampling(labels, info)


@dataclass(frozen=True)
class Headlong:
    """A step that takes every update."""

    def build(self, objective, tx, trainable, mesh):
        raise NotImplementedError


def test_a_step_that_cannot_leave_updates_out(tiny):
    optimizer = {"name": "sgd", "on_nan": "skip"}
    match = r"on_nan = 'skip' leaves out .* the step of this run cannot\. Leave on_nan out"
    refused(tiny, match, step=f"{__file__}:Headlong", optimizer=optimizer)
