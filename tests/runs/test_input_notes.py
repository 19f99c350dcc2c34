"""What is odd about pictures or batches is said in the first lines of a run."""

import jax
import numpy as np
from tlx_image.model_images import saved_images

from tlx import cli
from tlx.assemble import assemble
from tlx.config import parse
from tlx.model import Model
from tlx.registry import build
from tlx.reporting.describe import described
from tlx.run_file.run_config import Part
from tlx.run_folder.model_folder import save_model
from tlx.testing import toys
from tlx.types import unlabelled


def test_black_pictures_are_said_in_the_first_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toy = f"{toys.__file__}:ToyBackbone"
    backbone = build("backbones", toy)
    model = Model(backbone, None, backbone.inputs)
    image = np.zeros((1, 8, 8, 3), np.uint8)
    save_model(
        tmp_path / "old", backbone=Part(toy), head=None, **saved_images(backbone.inputs, (8, 8)),
        classes=(),
        variables=jax.jit(model.init)(jax.random.key(0), unlabelled({"image": image})),
    )  # fmt: skip
    label = np.arange(40) % 2
    np.savez("black.npz", x_train=np.zeros((40, 8, 8, 3), np.uint8), y_train=label)
    (tmp_path / "run.toml").write_text(
        f'steps = 4\ndata = "npz:black.npz"\nbackbone = "{toy}"\nweights = "run:old"\n'
    )
    assert cli.main(["show", "run.toml"]) == 0
    out = capsys.readouterr().out
    assert "almost of one colour" in out
    assert cli.main(["show", "run.toml", "--set", "weights=none"]) == 0
    assert "almost of one colour" not in capsys.readouterr().out


def test_a_batch_larger_than_the_training_split_is_said(tiny, tmp_path):
    told = []
    for batch in (69, 92):
        table = tiny(steps=1) | {"batch_size": batch}
        told.append(described(assemble(parse(table, "the table", names=True)))["data"]["notes"])
    few, many = told
    assert [note for note in many if note not in few] == [
        "A batch of 92 is more than the 69 training examples, so a step draws each 1.33 times; "
        "with batch_size = 69 it would draw each once."
    ]
