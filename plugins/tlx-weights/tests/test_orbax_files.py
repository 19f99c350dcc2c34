"""Orbax checkpoints as Flax programs write them."""

import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tlx import registry
from tlx.errors import WeightsError
from tlx.protocols import WeightSource

TREE = {
    "params": {
        "Dense_0": {
            "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
            "bias": jnp.ones(3, jnp.bfloat16),
        }
    },
    "batch_stats": {"bn": {"mean": np.zeros(2, np.float32)}},
    "blocks": [np.ones(1, np.int32), np.zeros((2, 1), np.float32)],
    "step": 3,
    "nothing": None,
}
NAMES = {
    "params/Dense_0/kernel",
    "params/Dense_0/bias",
    "batch_stats/bn/mean",
    "blocks/0",
    "blocks/1",
    "step",
}


def source(path, **options):
    return registry.build("weights", "orbax", {"path": str(path), **options})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`tree` and `text` (with a string in it), and the folders of two managers."""
    folder = tmp_path_factory.mktemp("orbax")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "tree", TREE)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(folder / "text", args=ocp.args.PyTreeSave({**TREE, "said": "hello"}))
    with ocp.CheckpointManager(folder / "manager") as manager:
        for step in (9, 10):
            manager.save(step, args=ocp.args.StandardSave(TREE))
    two = {"state": TREE, "average": TREE}
    with ocp.CheckpointManager(folder / "two") as manager:
        items = {name: ocp.args.StandardSave(tree) for name, tree in two.items()}
        manager.save(0, args=ocp.args.Composite(**items))
    return folder


@pytest.mark.parametrize("name", ["tree", "text", "manager/10", "two/0/state"])
def test_a_tree_becomes_names(saved, name):
    weights = source(saved / name)
    assert isinstance(weights, WeightSource)
    tensors = weights.tensors()
    assert tensors.values.keys() == NAMES
    dense = TREE["params"]["Dense_0"]
    np.testing.assert_array_equal(tensors.values["params/Dense_0/kernel"], dense["kernel"])
    np.testing.assert_array_equal(tensors.values["params/Dense_0/bias"], dense["bias"])
    assert tensors.values["params/Dense_0/bias"].dtype == jnp.bfloat16
    assert tensors.values["blocks/1"].shape == (2, 1)
    assert tensors.values["step"] == 3
    assert all(isinstance(values, np.ndarray) for values in tensors.values.values())


def test_the_digest_is_that_of_all_files(saved):
    sha256 = source(saved / "tree").tensors().sha256
    assert source(saved / "tree", sha256=sha256[:9]).tensors().sha256 == sha256
    with pytest.raises(WeightsError, match="is not what was meant"):
        source(saved / "tree", sha256="00").tensors()


def test_the_state_of_nnx_loses_its_wrapping(tmp_path):
    from flax import nnx

    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", nnx.state(module))
    tensors = source(tmp_path / "nnx").tensors()
    assert tensors.values.keys() == {"kernel", "bias"}
    np.testing.assert_array_equal(tensors.values["kernel"], module.kernel[...])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("manager", r"several checkpoints: name one of 9, 10, such as \S+/10"),
        ("two/0", "several checkpoints: name one of average, state"),
        ("trees", r"does not exist.*Did you mean 'tree'"),
        ("tree/_METADATA", "is a file"),
        ("tree/d", "is no Orbax checkpoint.*It holds"),
        ("half.orbax-checkpoint-tmp-1", "was never finished"),
    ],
)
def test_a_wrong_folder_is_said(saved, name, said):
    (saved / "half.orbax-checkpoint-tmp-1").mkdir(exist_ok=True)
    with pytest.raises(WeightsError, match=said) as caught:
        source(saved / name).tensors()
    assert "\n" not in str(caught.value)


def test_damage_is_said(saved, tmp_path):
    for number, spoil in enumerate((
        lambda folder: (folder / "_METADATA").write_text("{"),
        lambda folder: (folder / "_METADATA").write_text('{"tree_metadata": {}}'),
        lambda folder: (folder / "manifest.ocdbt").write_bytes(b"no"),
        lambda folder: shutil.rmtree(folder / "d"),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        shutil.copytree(saved / "tree", folder)
        spoil(folder)
        with pytest.raises(WeightsError):
            source(folder).tensors()


def test_arrays_that_claim_more_than_there_is(saved, tmp_path):
    """A hundred billion numbers of which none was written."""
    folder = tmp_path / "large"
    shutil.copytree(saved / "text", folder)
    described = folder / "params.Dense_0.kernel" / ".zarray"
    text = described.read_text()
    assert '"shape":[2,3]' in text
    described.write_text(text.replace('"shape":[2,3]', '"shape":[1000000,100000]'))
    with pytest.raises(WeightsError, match="made to fill the memory"):
        source(folder).tensors()


@pytest.mark.parametrize("name", ["../tree", "/tree"])
def test_names_that_lead_out_of_the_folder(saved, tmp_path, name):
    folder = tmp_path / "out"
    shutil.copytree(saved / "text", folder)
    described = folder / "_METADATA"
    described.write_text(described.read_text().replace("batch_stats", name))
    with pytest.raises(WeightsError, match="leads out of it"):
        source(folder).tensors()
