"""Which weights a run starts from that names none: those packaged with its backbone, if any."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tlx import config as configs
from tlx import registry
from tlx.contracts.made_for import made_for
from tlx.contracts.options import schema
from tlx.errors import ConfigError
from tlx.run_file.packaged_weights import packages, random_words
from tlx.trees import flat
from tlx.weights import sources

THEIRS = "resnet20-cifar10"


def run(backbone, **more):
    return configs.parse({"name": "r", "data": "digits", "backbone": backbone, **more})


def name(config):
    return config.weights.name if config.weights else None


@pytest.mark.parametrize(
    ("backbone", "weights"),
    [
        ("resnet20", THEIRS),
        ("tlx-flax/resnet20", THEIRS),
        ({"name": "resnet20", "shortcut": "A"}, THEIRS),  # as it is anyway
        ({"name": "resnet20", "shortcut": "B"}, None),
        ({"name": "resnet20", "channels": 1}, None),
        ({"name": "resnet20", "what": 1}, None),  # refused by whoever builds it
        ("resnet8", None),
        ("nobody", None),
        ("file.py:resnet20", None),
        ("keras:ResNet50", None),
    ],
)
def test_a_backbone_gets_the_weights_that_were_made_for_it(backbone, weights):
    assert name(run(backbone)) == weights


def test_what_is_said_is_done():
    assert run("resnet20", weights="none").weights is None
    assert name(run("resnet20", weights={"name": "npz", "path": "x"})) == "npz"
    kept = run("resnet20", weights={"head": "keep", "allow": ["*"]}).weights
    assert (kept.name, kept.head, kept.allow) == (THEIRS, "keep", ("*",))
    with pytest.raises(ConfigError, match=r"weights.name: is required"):
        run("resnet8", weights={"head": "keep"})


def test_every_variant_gets_those_of_its_own_backbone():
    variants = [
        {"name": "same", "seed": 1},
        {"name": "other", "backbone": "resnet8"},
        {"name": "wider", "backbone": {"shortcut": "B"}},
        {"name": "kept", "weights": {"head": "keep"}},
        {"name": "random", "weights": "none"},
    ]
    whole = run("resnet20", variant=variants)
    wanted = [THEIRS, None, None, THEIRS, None]
    assert [name(found) for _, found in configs.expand(whole)] == wanted
    again = configs.parse(configs.table(whole))
    assert again == whole, "the run file that is kept says it all"
    others = run("resnet8", variant=[{"name": "a"}, {"name": "b", "backbone": "resnet20"}])
    assert [name(found) for _, found in configs.expand(others)] == [None, THEIRS]
    stated = run("resnet20", weights="none", variant=[{"name": "a", "backbone": "resnet20"}])
    assert [name(found) for _, found in configs.expand(stated)] == [None]


def test_a_stage_starts_from_the_one_before():
    whole = run("resnet20", stage=[{"name": "a"}, {"name": "b"}], variant=[{"name": "v"}])
    first, last = (found for _, found in configs.stages(whole, "out"))
    assert (name(first), name(last)) == (THEIRS, f"run:{Path('out/a').absolute()}")
    assert [name(found) for _, found in configs.expand(last)] == [name(last)]
    other = run("resnet8", stage=[{"name": "a", "backbone": "resnet20"}])
    assert [name(found) for _, found in configs.stages(other, "out")] == [THEIRS]


def test_a_source_gets_them_too():
    sources = {"a": {"backbone": "resnet20"}, "b": {"run": "x"}}
    assert name(run("resnet8", sources=sources).sources["a"]) == THEIRS
    variant = {"name": "v", "sources": {"a": {"backbone": "resnet20"}}}
    ((_, found),) = configs.expand(run("resnet8", variant=[variant]))
    assert name(found.sources["a"]) == THEIRS


def test_what_they_say_of_themselves_is_true():
    """Their tensors fill the backbone that they name, all of it, and their folder says the same."""
    made = registry.load("weights", THEIRS).made_for
    backbone = registry.build("backbones", made.backbone, made.options)
    known = schema(registry.load("backbones", made.backbone))
    assert made.defaults == {option.name: option.default for option in known}
    given = registry.build("weights", THEIRS)
    like = sources.begun(sources.Model(backbone, None, backbone.inputs)).shapes
    assert set(flat(like)) <= set(given.tensors().values)
    for path, leaf in flat(like).items():
        assert np.shape(given.tensors().values[path]) == leaf.shape
    about = json.loads((Path(given.tensors().origin) / "model.json").read_text())
    assert about["backbone"] == {"name": made.backbone, "options": made.options}


@pytest.fixture
def also(monkeypatch):
    """A second distribution, with weights for the same backbone, and for its other shortcut."""
    plugins = registry.find()
    factories = {
        "resnet20-stars": made_for("resnet20", shortcut="A")(lambda: None),
        "resnet20-dogs": made_for("resnet20", {"shortcut": "B"}, shortcut="A")(lambda: None),
    }
    more = [registry.Plugin("weights", n, "x:y", "other", "1") for n in factories]
    load = registry.load

    def loaded(kind, reference):
        return factories.get(reference.rpartition("/")[2]) or load(kind, reference)

    def found(kind=None):
        return tuple(p for p in (*plugins, *more) if kind in (None, p.kind))

    monkeypatch.setattr(registry, "find", found)
    monkeypatch.setattr(registry, "load", loaded)


@pytest.mark.usefixtures("also")
def test_two_that_fit_are_a_question():
    with pytest.raises(ConfigError, match=r"resnet20-cifar10, resnet20-stars\. Name one"):
        run("resnet20")
    assert packages("resnet20", {"shortcut": "B"}).fit == ("resnet20-dogs",)


@pytest.mark.parametrize(
    ("backbone", "options", "said"),
    [
        ("resnet20", {}, ["as the run says", THEIRS]),
        ("resnet20", {"shortcut": "B"}, [THEIRS, "shortcut = 'A', channels = 3"]),
        ("resnet8", {}, ["No weights are packaged for this", "hf:timm/resnet18", "a file"]),
    ],
)
def test_a_random_start_says_what_would_give_weights(backbone, options, said):
    text = random_words(backbone, options)
    assert text.startswith("none")
    for words in said:
        assert words in text


def test_jax_is_not_needed_to_know():
    code = (
        "import sys; from tlx import config; "
        "print(config.parse({'name': 'r', 'data': 'digits', 'backbone': 'resnet20'}).weights.name,"
        " {'jax', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{THEIRS} set()\n"
