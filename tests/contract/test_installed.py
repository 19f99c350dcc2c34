"""The conformance kit over everything that is installed."""

import pytest

from tlx import registry
from tlx.testing import cases, checks

SIBLINGS = (
    "convnext_base", "convnext_small", "resnet101", "resnet101d", "resnet152", "resnext101_32x8d",
    "resnet44", "resnet34d", "vit_base_patch8", "vit_base_patch14", "vit_base_patch16",
    "vit_base_patch32", "vit_small_patch8", "vit_small_patch14", "vit_small_patch16",
    "vit_small_patch32", "wide_resnet101_2",
)  # fmt: skip
"""The same networks with more or wider layers, or with other patches, as others that are checked
here; their parameters are held against other libraries' in any case."""


def marked(param):
    name = param.id.removeprefix("backbones/").split("-")[0]
    marks = [pytest.mark.slow] if name in SIBLINGS else []
    return pytest.param(*param.values, id=param.id, marks=marks)


@pytest.mark.parametrize("case", [marked(param) for param in cases()])
def test_conformance(case):
    case()


def test_every_plugin_has_all_checks_of_its_kind():
    """Nothing registered is left out, and no kind is without checks."""
    ids = [param.id for param in cases()]
    assert len(ids) == len(set(ids))
    for plugin in registry.find():
        own = [i for i in ids if i.startswith(f"{plugin.kind}/{plugin.name}-")]
        assert len(own) == len(checks(plugin.kind)) > 3
    assert len({plugin.kind for plugin in registry.find()}) >= 9
