"""Tests of whole runs and of many shapes compile more than they compute."""

import pytest

from tlx.testing.compiling import compiled_once


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Programs are not optimised, and compiled once."""
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield
