"""A stranger's folder runs nothing, whatever opens it; its author's runs what it always ran.

Every way into a folder is walked twice: as it is, and trusted. What ran leaves a file behind.
"""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from safetensors.numpy import load_file, save_file
from tlx_image.model_images import saved_images

import tlx
from tlx import cli, registry, study
from tlx.config import Part, SourceConfig, WeightsConfig, read
from tlx.errors import TlxError, TrustError
from tlx.model import Model
from tlx.run_file import folder_code
from tlx.run_folder.model_folder import Base, save_model
from tlx.studies import sweep
from tlx.testing.toys import ToyBackbone
from tlx.trees import flat
from tlx.types import unlabelled
from tlx.weights import sources
from tlx.weights.saved import load

TROJAN = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from tlx.testing.toys import ToyBackbone
"""
RUN = """
epochs = 1
data = {{ name = "digits", limit = 4 }}
backbone = {{ name = "{}", nonsense = 1 }}
"""


@pytest.fixture
def trojan(tmp_path):
    """(the reference, the file that is there once it ran)."""
    (tmp_path / "net.py").write_text(TROJAN)
    return f"{tmp_path}/net.py:ToyBackbone", tmp_path / "ran"


def model(folder, name, *, base=None):
    """A model whose backbone goes by `name`, left in a run's folder; its leaves."""
    backbone = ToyBackbone()
    whole = Model(backbone, registry.build("heads", "softmax", {"classes": 3}), backbone.inputs)
    image = jnp.zeros((1, 8, 8, 3), jnp.uint8)
    variables = whole.init(jax.random.key(0), unlabelled({"image": image}))
    same = frozenset(flat(variables)) if base else frozenset()
    save_model(
        folder / "model", backbone=Part(name), head=Part("softmax"), classes=("a", "b", "c"),
        variables=variables, base=base, same=same, **saved_images(backbone.inputs, (8, 8)),
    )  # fmt: skip
    (folder / "run.toml").write_text(RUN.format(name))
    return flat(variables)


@pytest.fixture
def stranger(tmp_path, trojan):
    """The folder as it comes from another machine."""
    model(tmp_path / "own", trojan[0])
    shutil.copytree(tmp_path / "own", tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def change(tmp_path, trojan):
    """The same of a model that is kept as a change to other weights."""
    leaves = model(tmp_path / "whole", trojan[0])
    save_file({name: jax.device_get(leaf) for name, leaf in leaves.items()}, tmp_path / "w")
    weights = ("safetensors", {"path": str(tmp_path / "w")})
    sha256 = registry.build("weights", *weights).tensors().sha256
    model(tmp_path / "changed", trojan[0], base=Base(weights, sha256, ("lora", {})))
    shutil.copytree(tmp_path / "changed", tmp_path / "their_change")
    return tmp_path / "their_change"


VERBS = {
    "predict": "predict {} x.png",
    "eval": "eval {}",
    "export": "export {} --to safetensors --out exported",
    "rank": "rank digits --sources {} --images 40 --score logme",
    "run": "run {}",
    "show": "show {}",
    "sweep": "sweep {} --over optimizer.learning_rate=0.1",
    "audit": "audit {} --set weights=resnet20-cifar10",
}
OF_CHANGES = {
    "inspect": "weights inspect {}",
    "verify": "weights verify {} --backbone resnet20 --write reference.npz",
    "rank a change": "rank digits --sources resnet20={} --images 40 --score logme",
    "rank a fit": "rank digits --sources {}/model --images 40 --score logme",
}


@pytest.mark.parametrize("verb", [*VERBS, *OF_CHANGES])
def test_no_verb_runs_it_unless_it_is_trusted(
    verb, stranger, change, trojan, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    reference, ran = trojan
    line = (VERBS | OF_CHANGES)[verb].format(stranger if verb in VERBS else change).split()
    assert cli.main(line) == cli.REFUSED
    (said,) = capsys.readouterr().err.splitlines()
    assert f"would run {reference}" in said
    assert "--trust-code" in said
    assert not ran.exists()
    cli.main([*line, "--trust-code"])
    assert "would run" not in capsys.readouterr().err
    assert ran.exists()


PYTHON = {
    "load": lambda folder, **trust: tlx.load(folder, **trust),
    "its model": lambda folder, **trust: tlx.load(folder / "model", **trust),
    "run": lambda folder, **trust: tlx.run(folder, **trust),
    "evaluate": lambda folder, **trust: study.evaluate(folder, **trust),
    "sweep": lambda folder, **trust: sweep.sweep(folder, ["seed=1,2"], **trust),
    "rank": lambda folder, **trust: tlx.rank("digits", [str(folder)], images=40, **trust),
    "similarity": lambda folder, **trust: tlx.similarity(["digits"], str(folder), **trust),
    "a source": lambda folder, **trust: sources.others(
        {"x": SourceConfig(run=str(folder), **trust)}, lambda _: None
    ),
    "a soup": lambda folder, **trust: registry.build(
        "strategies", "greedy_soup", {"runs": [str(folder)], **trust}
    ).finish(
        model=None, start=None, variables=None, batches=lambda: (), score=lambda _: 0.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", PYTHON)
def test_no_function_runs_it_unless_it_is_trusted(way, stranger, trojan):
    with pytest.raises(TrustError, match="trust_code=True"):
        PYTHON[way](stranger)
    assert not trojan[1].exists()
    try:
        PYTHON[way](stranger, trust_code=True)
    except TrustError:
        raise
    except Exception:
        pass  # of what comes after
    assert trojan[1].exists()


def test_weights_of_a_run_file_run_it_where_it_says_so(change, trojan):
    with pytest.raises(TrustError):
        sources.open_weights(WeightsConfig(name=f"run:{change}")).tensors()
    assert not trojan[1].exists()
    trusted = WeightsConfig(name=f"run:{change}", options={"trust_code": True})
    assert sources.open_weights(trusted).tensors().values
    assert trojan[1].exists()


def test_its_author_is_not_asked(tmp_path, trojan):
    model(tmp_path / "own", trojan[0])
    assert load(tmp_path / "own").classes == ("a", "b", "c")
    about = tmp_path / "own" / "model" / "model.json"
    about.write_text(about.read_text() + " ")  # not as it was written
    with pytest.raises(TrustError):
        load(tmp_path / "own")


def test_the_numbers_of_a_whole_model_are_anybodys(stranger, trojan):
    weights = registry.build("weights", "run", {"path": str(stranger)})
    assert weights.tensors().values.keys() == load_file(stranger / "model/model.safetensors").keys()
    assert not trojan[1].exists()


def test_a_run_file_that_is_named_itself_is_its_users(stranger, trojan):
    assert read(stranger / "run.toml").backbone.name == trojan[0]


def changed(folder, **parts):
    file = folder / "model" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))


def test_python_itself_is_no_safer_than_a_file_in_the_folder(stranger, tmp_path):
    """Nothing but a description is needed to run a command."""
    mark = tmp_path / "commanded"
    command = {"cmd": f'"{sys.executable}" -c "open({str(mark)!r}, {"w"!r})"'}
    backbone = {"name": f"{subprocess.__file__}:getoutput", "options": command}
    changed(stranger, backbone=backbone)
    with pytest.raises(TrustError, match="subprocess"):
        load(stranger)
    assert not mark.exists()
    with pytest.raises((TlxError, AttributeError)):
        load(stranger, trust_code=True)
    assert mark.exists()  # the threat is real


def test_an_option_of_a_plugin_hides_nothing(change, trojan):
    outer = ["probe_then_finetune", {"of": trojan[0]}]
    base = json.loads((change / "model/model.json").read_text())["base"]
    changed(change, backbone={"name": "resnet20", "options": {}}, base=base | {"strategy": outer})
    with pytest.raises(TrustError, match=r"net\.py"):
        load(change)
    assert not trojan[1].exists()


def test_a_folder_cannot_trust_another_in_its_users_name(change, stranger, trojan):
    base = json.loads((change / "model/model.json").read_text())["base"]
    base["weights"] = ["run", {"path": str(change), "trust_code": True}]
    changed(stranger, backbone={"name": "resnet20", "options": {}}, base=base)
    with pytest.raises(TrustError, match=r"what .*their_change names"):
        load(stranger)
    assert not trojan[1].exists()


def test_trust_goes_on_to_what_a_folder_is_made_of(change, tmp_path, trojan):
    weights = ("run", {"path": str(change)})
    sha256 = registry.build("weights", *weights, {"trust_code": True}).tensors().sha256
    base = Base(weights, sha256, ("lora", {}))
    model(tmp_path / "twice", trojan[0], base=base)
    shutil.copytree(tmp_path / "twice", tmp_path / "their_twice")
    with pytest.raises(TrustError, match="their_twice"):
        load(tmp_path / "their_twice")
    with pytest.raises(TrustError, match="their_change"):
        load(tmp_path / "twice")  # this one is one's own
    assert load(tmp_path / "their_twice", trust_code=True).classes == ("a", "b", "c")


def test_what_is_found():
    data = {"a": [{"b": ("x.py:Y", "z.py"), "c.py:D": 1}, "flip", "run:x"], "n": None}
    assert folder_code.named(data) == ("c.py:D", "x.py:Y")
    deep = "x.py:Y"
    for _ in range(100_000):
        deep = [deep]
    assert folder_code.named(deep) == ("x.py:Y",)


def test_without_a_cache_folder_nobody_is_known(tmp_path, trojan, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLX_CACHE", str(tmp_path / "file"))
    model(tmp_path / "own", trojan[0])
    with pytest.raises(TrustError):
        load(tmp_path / "own")
