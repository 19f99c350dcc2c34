"""Weights measured without training, from the Python side and from the command line."""

import json

import jax
import numpy as np
import pytest
from tlx_image.model_images import saved_images

from tlx import cli, study
from tlx.errors import ConfigError, DataError, WeightsError
from tlx.model import Model
from tlx.registry import build
from tlx.run_file.run_config import Part
from tlx.run_folder.model_folder import save_model
from tlx.testing import toys
from tlx.types import unlabelled
from tlx.weights import saved

TOY = f"{toys.__file__}:ToyBackbone"
CLASSES = ("red", "green", "blue")
DATA = """
import numpy as np
from dataclasses import dataclass
from tlx_data.image_info import image_info

class Split:
    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.labels = np.arange(count) % 3
        self.images = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index]}

@dataclass(frozen=True)
class Data:
    splits: tuple[str, ...] = ("test",)
    classes: tuple[str, ...] = ("red", "green", "blue")
    count: int = 70
    @property
    def info(self):
        sizes = {name: self.count for name in self.splits}
        return image_info("data", (8, 8, 3), self.classes, sizes, "fingerprint")
    def split(self, name):
        return Split(self.count, len(name))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data and a model that nobody trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(DATA)
    backbone = build("backbones", TOY)
    model = Model(backbone, build("heads", "softmax", given={"classes": 3}), backbone.inputs)
    image = np.zeros((1, 8, 8, 3), np.uint8)
    save_model(
        tmp_path / "old" / "model", backbone=Part(TOY), head=Part("softmax"),
        classes=CLASSES, **saved_images(model.inputs, (8, 8)),
        variables=model.init(jax.random.key(3), unlabelled({"image": image})),
    )  # fmt: skip
    return tmp_path


@pytest.fixture
def run_file(here):
    def write(head="keep", more=""):
        file = here / "run.toml"
        file.write_text(
            f'{more}\ndata = "data.py:Data"\nbackbone = "{TOY}"\n'
            f'[weights]\nname = "run:old"\nhead = "{head}"\n'
        )
        return file

    return write


def expected(here):
    """Right answers by another way: the saved model's predictions, picture by picture."""
    namespace = {"__name__": __name__}
    exec(compile(DATA, "data", "exec", dont_inherit=True), namespace)
    split = namespace["Data"]().split("test")
    told = saved.load(here / "old").predict(split.images)
    return sum(
        row["class"] == CLASSES[label] for row, label in zip(told, split.labels, strict=True)
    )


@pytest.mark.parametrize("more", ["", "epochs = 0", "steps = 0"])
def test_weights_are_measured_as_they_are_on_a_test_split_alone(here, run_file, more):
    found = study.evaluate(run_file(more=more))
    assert found["test"]["examples"] == 70
    assert found["test"]["correct"] == expected(here)
    assert found["test"]["accuracy"] == pytest.approx(expected(here) / 70, abs=1e-6)
    assert "as loaded" in found["model"]
    assert "val" not in found
    assert not (here / "runs").exists()


def test_splits_that_the_data_bring_and_one_that_is_cut(run_file):
    file = run_file()
    found = study.evaluate(file, ['data.splits=["train", "val", "test"]'])
    assert found["val"]["examples"] == found["test"]["examples"] == 70
    found = study.evaluate(file, ['data.splits=["train"]', "data.test=20"])
    assert found["test"]["examples"] == 20
    assert "val" not in found


def test_on_the_command_line(here, run_file, capsys):
    assert cli.main(["eval", str(run_file(more="epochs = 0"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("the weights 'run:old' as loaded, without training")
    assert f"correct            {expected(here)}" in lines
    assert "examples           70" in lines
    assert cli.main(["eval", "run.toml", "--set", "data.count=7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["examples"] == 7


@pytest.mark.parametrize(
    ("head", "more"), [("new", ""), ("new", "epochs = 0"), ("keep", "epochs = 3")]
)
def test_a_run_that_trains_has_to_be_run_first(run_file, head, more):
    with pytest.raises(ConfigError, match=r"'tlx run .*weights\.head=keep epochs=0"):
        study.evaluate(run_file(head, more))


def test_variants_are_measured_each(run_file):
    file = run_file()
    file.write_text(
        file.read_text() + '[[variant]]\nname = "few"\ndata.count = 9\n[[variant]]\nname = "all"\n'
    )
    found = study.evaluate(file)
    assert {name: entry["test"]["examples"] for name, entry in found.items()} == {
        "few": 9, "all": 70,
    }  # fmt: skip


def test_what_else_is_wrong_is_said_first(run_file):
    with pytest.raises(ConfigError, match="optimiser"):
        study.evaluate(run_file(more="optimiser = 1"))
    with pytest.raises(ConfigError, match="There is no run file"):
        study.evaluate("absent.toml")


def test_weights_that_do_not_fit_are_refused(run_file):
    with pytest.raises(WeightsError, match="do not fit"):
        study.evaluate(run_file(), ["backbone.width=5"])
    with pytest.raises(WeightsError, match="do not fit"):
        study.evaluate(run_file(), ['data.classes=["a", "b", "c", "d"]'])


def test_the_same_classes_in_another_order_are_refused(run_file):
    with pytest.raises(DataError, match="another order"):
        study.evaluate(run_file(), ['data.classes=["blue", "green", "red"]'])


def test_set_does_not_change_a_finished_run(here):
    with pytest.raises(ConfigError, match="cannot change what it is: 'seed=1'"):
        study.evaluate(here / "old", ["seed=1"])
