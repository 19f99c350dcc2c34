"""What a run keeps names its files so that it is found again from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlx import config, registry
from tlx.errors import DataError
from tlx.run_file.portable import portable, resolved
from tlx.run_folder.locations import absolute, refuse_missing

CODE = """
from tlx.types import Location

def plain(path: Location, label: str = "label", more: tuple[Location, ...] = ()): ...
def net(inner: str = ""): ...
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text(CODE)
    for name in ("a", "b", "label"):
        Path(name).mkdir()
    return tmp_path


def parsed(**changes):
    table = {"name": "x", "data": {"name": "code.py:plain", "path": "a"}, "backbone": "resnet20"}
    return config.parse(table | changes)


def test_options_that_say_where_something_lies_become_absolute(here):
    data = {"name": "code.py:plain", "path": "a", "label": "label", "more": ["b", "nowhere"]}
    found = absolute(parsed(data=data, backbone={"name": "code.py:net", "inner": "code.py:net"}))
    assert found.data.name == f"{here}/code.py:plain"
    assert found.data.options == {
        "path": f"{here}/a", "label": "label", "more": (f"{here}/b", "nowhere"),
    }  # fmt: skip
    assert found.backbone.options == {"inner": f"{here}/code.py:net"}
    assert absolute(found) == found


def test_a_reference_says_where_something_lies_too(here):
    found = absolute(parsed(data="folder:a", weights="npz:b", sources={"old": {"run": "a"}}))
    assert (found.data.name, found.data.options) == ("folder", {"path": f"{here}/a"})
    assert found.weights is not None
    assert found.weights.name == f"npz:{here}/b"
    assert found.sources["old"].run == f"{here}/a"
    kept = absolute(parsed(data="digits", weights="hf:owner/name"))
    assert kept.data.name == "digits"
    assert kept.weights is not None
    assert kept.weights.name == "hf:owner/name"


def test_patterns_stages_and_variants(here):
    shards = {"name": "webdataset", "path": "a/{000..003}.tar", "val_path": "b/*.tar"}
    variants = [{"name": "one", "data": {"path": "b/?.tar"}}, {"name": "two", "data": "folder:b"}]
    found = absolute(parsed(data=shards, variant=variants))
    assert found.data.options["path"] == f"{here}/a/{{000..003}}.tar"
    assert found.data.options["val_path"] == f"{here}/b/*.tar"
    one, two = (run for _, run in config.expand(found))
    assert one.data.options["path"] == f"{here}/b/?.tar"
    assert two.data.options["path"] == f"{here}/b"


def test_what_has_moved_is_named_with_its_option(here):
    run = absolute(parsed(data="folder:a", domain="folder:b"))
    refuse_missing(run, Path("run"))
    Path("b").rename("c")
    with pytest.raises(DataError, match=r"run are not at .*/b any more.*domain\.path=PLACE"):
        refuse_missing(run, Path("run"))


def test_every_plugin_that_reads_a_path_says_so():
    """By the words for it that are in use."""
    for plugin in registry.find():
        if plugin.kind not in ("datasets", "weights") or not plugin.distribution.startswith("tlx-"):
            continue
        for option in registry.schema(registry.load(plugin.kind, plugin.name)):
            if option.name in ("path", "root", "folder", "data_dir", "repo"):
                assert registry.locates(option.annotation), f"{plugin.reference}: {option}"
                assert "Annotated" not in str(option)


def test_what_lies_below_the_folder_of_the_start_is_said_from_where_it_is_written(here):
    said = {
        "a": f"{here}/a",
        "b": [f"npz:{here}/b/?.npz"],
        "c": f"{here}/code.py:net",
        "d": "/else",
    }
    kept = portable(said, here / "runs/one")
    assert kept == {
        "a": "{here}/../../a", "b": ["npz:{here}/../../b/?.npz"], "c": "{here}/../../code.py:net",
        "d": "/else",
    }  # fmt: skip
    assert resolved(kept, here / "runs/one") == said
    assert resolved(kept, Path("/new/runs/one"))["a"] == "/new/a"
    assert portable(said, here.parent / "elsewhere") == said, "the run itself lies elsewhere"
