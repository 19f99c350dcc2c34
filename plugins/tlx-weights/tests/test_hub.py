"""Weights from a hub, which here is a server on this machine or a folder."""

import hashlib
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tlx import registry
from tlx.errors import WeightsError
from tlx.protocols import WeightSource
from tlx.run_file.weight_reference import reference

_spec = importlib.util.spec_from_file_location(
    "hub_server", Path(__file__).with_name("hub_server.py")
)
assert _spec
assert _spec.loader
hub_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hub_server)

TENSORS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "fc.bias": np.ones(2, np.float16),
}
CONFIG = {
    "architecture": "resnet18",
    "num_classes": 2,
    "label_names": ["ant", "bee"],
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
    },
}
FILES = {"model.safetensors": save(TENSORS), "config.json": json.dumps(CONFIG).encode()}
SHARDS = {
    "model-1-of-2.safetensors": save({"conv1.weight": TENSORS["conv1.weight"]}),
    "model-2-of-2.safetensors": save({"fc.bias": TENSORS["fc.bias"]}),
}
WHERE = {
    "conv1.weight": "model-1-of-2.safetensors",
    "fc.bias": "model-2-of-2.safetensors",
}
INDEX = "model.safetensors.index.json"


def source(repo, **options):
    return registry.build("weights", f"hf:{repo}", options)


def folder(place, files=FILES):
    place.mkdir(exist_ok=True)
    for name, data in files.items():
        (place / name).write_bytes(data)
    return place


def indexed(table=WHERE, **more):
    return {INDEX: json.dumps({"weight_map": table}).encode(), **SHARDS, **more}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with two models, and an empty cache."""
    from huggingface_hub import close_session, constants

    close_session()  # the next one reads the environment anew
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    repos = {"timm/tiny.a1": FILES, "x/empty": {"README.md": b"#"}, "x/shards": indexed()}
    serving = hub_server.Hub(repos, gated=("x/gated",))
    template = serving.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", serving.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield serving
    serving.stop()
    close_session()


def same(found, wanted=TENSORS):
    assert found.values.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found.values[name], values)
        assert found.values[name].dtype == values.dtype


def test_a_folder_of_the_hubs_layout_is_read_in_place(tmp_path):
    weights = source(folder(tmp_path / "net"))
    assert isinstance(weights, WeightSource)
    tensors = weights.tensors()
    same(tensors)
    assert tensors.sha256 == hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert weights.input.size == (64, 64)
    assert (weights.classes, weights.architecture) == (("ant", "bee"), "resnet18")
    ignoring = source(tmp_path / "net", preprocessing="backbone")
    assert ignoring.input is None
    same(ignoring.tensors())


def test_a_folder_relative_to_the_current_one(tmp_path, monkeypatch):
    folder(tmp_path / "net")
    monkeypatch.chdir(tmp_path)
    same(source("./net").tensors())
    with pytest.raises(WeightsError, match=r"There is no folder nett\. Did you mean 'net'\?"):
        source("./nett").tensors()
    with pytest.raises(WeightsError, match="net is a folder, which has no revision 'v1'"):
        source("net", revision="v1").tensors()


def test_first_from_the_hub_then_from_the_cache_without_it(hub):
    weights = source("timm/tiny.a1")
    same(weights.tensors())
    assert weights.input.size == (64, 64)
    assert weights.classes == ("ant", "bee")
    assert weights.tensors().origin == "hf:timm/tiny.a1 (model.safetensors)"
    fetched = {path.rpartition("/")[2] for method, path in hub.asked if method == "GET"}
    assert fetched - {"agent-harnesses"} == set(FILES), "only what is needed is fetched"
    asked = len(hub.asked)
    same(source("timm/tiny.a1").tensors())
    assert len(hub.asked) == asked, "what is in the cache needs no request"
    hub.stop()
    started = time.monotonic()
    for again in (source("timm/tiny.a1"), source(f"timm/tiny.a1@{hub_server.COMMIT}")):
        same(again.tensors())
        assert again.input == weights.input
    assert time.monotonic() - started < 2


def test_a_missing_connection_is_noticed_at_once(hub):
    hub.stop()
    started = time.monotonic()
    with pytest.raises(WeightsError, match=r"not in the cache.*cannot be reached") as caught:
        source("timm/tiny.a1").tensors()
    assert time.monotonic() - started < 3, "huggingface_hub alone tries again for 23 s"
    assert "\n" not in str(caught.value)


def test_weights_in_the_cache_without_their_preprocessing_are_not_used_offline(hub):
    """A guess at how pictures were prepared would be a silent mistake."""
    source("timm/tiny.a1", preprocessing="backbone").tensors()
    hub.stop()
    with pytest.raises(WeightsError, match=r"not in the cache.*no config\.json"):
        source("timm/tiny.a1").input  # noqa: B018


def test_the_users_wish_to_stay_offline_is_kept(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="cannot be reached"):
        source("timm/tiny.a1").tensors()
    assert not hub.asked


def test_shards_from_the_hub(hub):
    weights = source("x/shards")
    same(weights.tensors())
    assert (weights.input, weights.classes, weights.architecture) == (None, None, "")


@pytest.mark.parametrize(
    ("repo", "options", "said"),
    [
        ("timm/nothing", {}, r"There is no model http\S+/timm/nothing, or it is private"),
        ("timm/tiny.a1", {"revision": "v9"}, "has no revision 'v9'"),
        ("timm/tiny.a1@v9", {}, "has no revision 'v9'"),
        ("timm/tiny.a1@v9", {"revision": "v8"}, "names the revision 'v9'.*'v8'"),
        ("x/gated", {}, r"open only to those.*hf auth login"),
        ("x/empty", {}, r"hf:x/empty has no model\.safetensors or pytorch_model\.bin"),
        ("timm/tiny.a1", {"file": "other.safetensors"}, r"has no other\.safetensors"),
        ("timm/tiny.a1", {"file": "../x"}, "a name inside hf:timm/tiny.a1, not '../x'"),
        ("timm/tiny.a1", {"sha256": "12ab"}, "is not the file that was meant"),
        ("no such name!", {}, "is no name of a model on the hub"),
        ("a/b/c", {}, "is no name of a model on the hub"),
    ],
)
def test_what_is_wrong_on_the_hub_is_said(hub, repo, options, said):
    with pytest.raises(WeightsError, match=said) as caught:
        source(repo, **options).tensors()
    assert "\n" not in str(caught.value)


def test_shards_and_their_digest(tmp_path):
    weights = source(folder(tmp_path / "net", indexed()))
    same(weights.tensors())
    lines = "".join(f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in sorted(SHARDS.items()))
    sha256 = hashlib.sha256(lines.encode()).hexdigest()
    assert weights.tensors().sha256 == sha256
    same(source(tmp_path / "net", sha256=sha256[:12]).tensors())
    with pytest.raises(WeightsError, match="is not what was meant"):
        source(tmp_path / "net", sha256="00").tensors()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (indexed({**WHERE, "more": "../secret"}), "names files outside of its folder"),
        (indexed({**WHERE, "more": "model-3-of-3.safetensors"}), r"has no model-3-of-3.*mean"),
        (indexed({**WHERE, "more": "model-1-of-2.safetensors"}), "promises 'more'"),
        (indexed({**WHERE, "more": ["model-1-of-2.safetensors"]}), "names no file for 'more'"),
        (indexed({"conv1.weight": "model-1-of-2.safetensors"} | {"fc.bias": "x"}), "has no x"),
        (indexed({"fc.bias": "model-1-of-2.safetensors"}), "does not say that 'conv1.weight'"),
        ({INDEX: b"{}"}, "has no table `weight_map`"),
        ({INDEX: b"["}, "is damaged"),
        ({INDEX: b"[" * 100_000}, "is damaged"),
        ({INDEX: b"7"}, "no JSON object"),
        ({"model.h5x": b""}, r"has no model\.safetensors.*It has: model\.h5x"),
    ],
)
def test_what_is_wrong_in_a_folder_is_said(tmp_path, files, said):
    with pytest.raises(WeightsError, match=said):
        source(folder(tmp_path / "net", files)).tensors()


def test_a_pytorch_file_where_there_is_no_safetensors(tmp_path):
    import torch

    place = folder(tmp_path / "net", {"config.json": FILES["config.json"]})
    state = {name: torch.from_numpy(values) for name, values in TENSORS.items()}
    torch.save(state, place / "pytorch_model.bin")
    same(source(place).tensors())
    torch.save({**state, "code": torch.nn.Linear(1, 1)}, place / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        source(place).tensors()
    with pytest.raises(WeightsError, match=r"'weights\.pkl' on the hub cannot be read"):
        source(folder(place, {"weights.pkl": b"x"}), file="weights.pkl").tensors()


def test_a_file_is_read_by_what_is_in_it(tmp_path):
    place = folder(tmp_path / "net", {"pytorch_model.bin": FILES["model.safetensors"]})
    same(source(place).tensors())
    page = folder(tmp_path / "page", {"pytorch_model.bin": b"<html>sign in</html>"})
    with pytest.raises(WeightsError, match=r"'pytorch_model\.bin' on the hub is a web page"):
        source(page).tensors()


def test_the_index_of_shards_as_the_file(tmp_path):
    place = folder(tmp_path / "net", {**indexed(), "config.json": FILES["config.json"]})
    weights = source(place / INDEX)
    found = weights.tensors()
    assert set(found.values) == set(WHERE)
    assert found.origin == f"{place} ({INDEX})"
    assert weights.classes == source(place).classes
    assert reference(str(place / INDEX)) == f"hf:{place / INDEX}"
