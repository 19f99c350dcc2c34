"""The conformance kit over everything that is installed."""

import pytest

from tlx import registry
from tlx.testing import cases, checks


@pytest.mark.parametrize("case", cases())
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
