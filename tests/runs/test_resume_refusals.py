"""A stopped run goes on only as what it was: whatever else changed is refused by its name."""

import shutil
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import tlx
from tlx import loop
from tlx.errors import CheckpointError, Interrupted
from tlx.study import evaluate
from tlx.testing import toys
from tlx.trees import flat

BACKBONE = """
from tlx.testing.toys import ToyBackbone

def backbone(width: int = 4):
    return ToyBackbone(width=width, dropout={dropout})
"""
HALF = """
import jax
import jax.numpy as jnp
from tlx.testing.toys import ToyBackbone
from tlx.types import Variables

class Half(ToyBackbone):
    def init(self, rng, x):
        params, state = super().init(rng, x)
        norm = jax.tree.map(jnp.float16, params["stage1"]["norm"])
        return Variables({**params, "stage1": {**params["stage1"], "norm": norm}}, state)

def backbone(width: int = 4):
    return Half()
"""


@contextmanager
def interruptible():
    """A signal is always there."""
    yield lambda: True


@pytest.fixture(scope="module")
def stopped(pictures, tmp_path_factory):
    """A folder with the data `own.npz`, the backbone `own.py` and the run `run` that stopped at
    its second step; and the table of it."""
    home = tmp_path_factory.mktemp("stopped")
    (home / "own.npz").write_bytes(pictures.read_bytes())
    (home / "own.py").write_text(BACKBONE.format(dropout=0.1))
    table = {
        "name": "own", "steps": 4, "batch_size": 10, "eval_every": 0.5, "sink": [],
        "data": {"name": "npz", "path": "own.npz", "val": 21},
        "backbone": {"name": "own.py:backbone"},
        "optimizer": {"name": "adam", "learning_rate": 0.01},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(loop, "interruptible", interruptible)
        with pytest.raises(Interrupted):
            tlx.run(table, out="run")
    return home, table


@pytest.fixture
def again(stopped, tmp_path, monkeypatch):
    """A copy of it, to be changed."""
    home, table = stopped
    shutil.copytree(home, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return {**table, "data": dict(table["data"])}


def setting(**changes):
    return lambda table: table.update(changes)


def data(change):
    """What a change does to the arrays of the file."""

    def changed(table):
        held = dict(np.load("own.npz"))
        change(held)
        np.savez("own.npz", **held)

    return changed


def source(text):
    def changed(table):
        with open("own.py", "w") as file:
            file.write(text)

    return changed


def another_path(table):
    shutil.copy("own.npz", "other.npz")
    table["data"]["path"] = "other.npz"


def names(*order):
    return data(lambda held: held.update(class_names=np.asarray(order)))


def one_pixel(held):
    held["x_test"][7, 0, 0, 0] ^= 1


def one_less(held):
    held.update(x_train=held["x_train"][:-1], y_train=held["y_train"][:-1])


def larger(held):
    held.update({key: held[key].repeat(2, 1).repeat(2, 2) for key in ("x_train", "x_test")})


def rolled(held):
    held["y_train"] = np.roll(held["y_train"], 1)


CASES = {
    "batch size": (setting(batch_size=15), r"settings for batch_size\."),
    "learning rate": (
        setting(optimizer={"name": "adam", "learning_rate": 0.1}),
        r'optimizer\.learning_rate\..* finish it with its own settings.* weights = "run" with the',
    ),
    "seed": (setting(seed=1), r"settings for seed\."),
    "path": (another_path, r"settings for data\.path\."),
    "pixels": (data(one_pixel), r"data\.fingerprint .*labels are the same, so that pictures"),
    "labels": (data(rolled), r"data\.fingerprint .*train\[\d+\] was '\w+' and is '\w+'"),
    "size of a split": (data(one_less), r"data\.splits .*90 .* then, 89 examples of 'train'"),
    "class order": (names("green", "red", "blue"), r"data\.classes .*0 was 'red'"),
    "class name": (names("red", "lime", "blue"), r"class 1 was 'green' and is 'lime'"),
    "one more class": (names("red", "green", "blue", "ink"), r"3 classes then, 4 now"),
    "picture size": (data(larger), r"data\.fields .*image was Image\(shape=\(8, .* and is .*\(16,"),
    "precision": (setting(precision="bf16"), r"settings for precision\."),
    "width": (setting(backbone={"name": "own.py:backbone", "width": 5}), r"backbone\.width\."),
    "optimizer": (setting(optimizer={"name": "sgd", "learning_rate": 0.01}), r"optimizer\.na"),
    "shape of a leaf": (
        source(BACKBONE.format(dropout=0.1).replace("= 4", "= 5")),
        r"'best/params/backbone/stage1/conv/bias' has shape \(4\) .* \(5\)",
    ),
    "dtype of a leaf": (
        source(HALF),
        r"'best/params/backbone/stage1/norm/bias' has dtype float32 .* float16",
    ),
}


@pytest.mark.parametrize(("change", "named"), CASES.values(), ids=CASES)
def test_what_changed_is_named(again, change, named):
    change(again)
    with pytest.raises(CheckpointError, match=named):
        tlx.run(again, out="run", resume=True)


def test_nothing_changed(again):
    assert tlx.run(again, out="run", resume=True)["steps"] == 4
    assert {"val", "test"} <= set(evaluate("run"))


def test_a_finished_run_is_measured_again_on_its_own_data_alone(again):
    tlx.run(again, out="run", resume=True)
    data(one_pixel)(again)
    wanted = (
        r"Cannot measure.*data\.fingerprint.*weights = \{ name = \"run:run\", head = \"keep\" \}"
    )
    with pytest.raises(CheckpointError, match=wanted):
        evaluate("run")
    other = {**again, "weights": {"name": "run:run", "head": "keep"}, "epochs": 0}
    del other["steps"]
    with open("other.toml", "w") as file:
        file.write(tlx.config.tomli_w.dumps(other))
    assert "test" in evaluate("other.toml")


@pytest.mark.parametrize("changed", ["weights", "sources.old"])
def test_another_file_of_weights_is_named(stopped, tmp_path, monkeypatch, changed):
    """A divergence would compare with another source from there on."""
    home, table = stopped
    shutil.copytree(home, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    fresh = toys.ToyBackbone().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    leaves = {
        path.replace("/", "/backbone/", 1): np.array(leaf) for path, leaf in flat(fresh).items()
    }
    for name in ("weights", "sources.old"):
        save_file(leaves, f"{name}.safetensors")
    own, old = ({"name": f"safetensors:{name}.safetensors"} for name in ("weights", "sources.old"))
    table = {
        **table, "weights": own, "divergence": [{"name": "l2_sp", "weight": 0.1, "source": "old"}],
        "sources": {"old": {"backbone": {"name": "own.py:backbone"}, "weights": old}},
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(loop, "interruptible", interruptible)
        with pytest.raises(Interrupted):
            tlx.run(table, out="started")
    leaves["params/backbone/stage1/conv/kernel"][0, 0, 0, 0] += 1
    save_file(leaves, f"{changed}.safetensors")
    with pytest.raises(CheckpointError, match=rf"{changed}\.sha256 is not what .*started with"):
        tlx.run(table, out="started", resume=True)


@pytest.mark.parametrize("content", ["", "[]", '{"data": 3}', "[" * 100_000, "\udcff"])
def test_a_damaged_provenance_is_said(again, content):
    with open("run/provenance.json", "w", errors="surrogateescape") as file:
        file.write(content)
    with pytest.raises(CheckpointError, match=r"provenance\.json is damaged.*--overwrite"):
        tlx.run(again, out="run", resume=True)
