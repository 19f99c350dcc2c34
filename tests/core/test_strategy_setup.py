"""A strategy may look at numbers and training data before it plans, and at nothing else."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
import pytest
from tlx_data.image_info import image_info

import tlx
from tlx import loop
from tlx.assemble import assemble
from tlx.commands import show
from tlx.config import parse
from tlx.errors import CheckpointError, ContractError, Interrupted
from tlx.files.stored_json import read_object
from tlx.protocols import Brought, Phase
from tlx.run_one import evaluate_run
from tlx.types import Variables


@dataclass(frozen=True)
class Looks:
    """Freezes the stages in `frozen`, which `setup` finds; `way` is what that does."""

    frozen: tuple[str, ...] | None = None
    way: str = "fine"
    seen: Any = field(default=(), compare=False)

    def setup(self, *, model, variables, batches, rng):
        if self.way != "fine":
            return WAYS[self.way](self)
        index = np.concatenate([np.asarray(b.index)[np.asarray(b.weight) > 0] for b in batches()])
        again = next(iter(batches()))
        leaves = variables.params["backbone"]["stage1"]["conv"]["kernel"]
        seen = index, np.asarray(again.inputs["image"]), set(variables.params), leaves
        return replace(self, frozen=("stage1",), seen=seen)

    def init(self, rng, model, batch):
        assert self.frozen is not None
        return Variables({}, {})

    def notes(self, model):
        return (f"It has looked at {len(self.seen[0])} pictures.",)

    def phases(self, model, steps):
        def group(path):
            part, name = path.split("/")[:2]
            return "frozen" if part == "backbone" and name in self.frozen else part

        def forward(model, variables, batch, constants, *, rng, mode, progress):
            return model.apply(variables, batch, rng=rng, mode=mode)

        return (Phase(name="only", steps=steps, group=group, forward=forward, norm="frozen"),)


def raises(own):
    raise ValueError("nothing to see")


class Another(Looks):
    brings = Brought((), {"one": tlx.config.SourceConfig(run="nowhere")})


WAYS = {
    "raises": raises,
    "nothing": lambda own: None,
    "a_list": lambda own: replace(own, frozen=["stage1"]),
    "a_class": lambda own: Looks,
    "brings": lambda own: Another(("stage1",)),
    "all": lambda own: replace(own, frozen=("stage1", "stage2"), way="fine"),
}


@dataclass(frozen=True)
class TrainingAlone:
    """Pictures of which validation and test must not be read."""

    @property
    def info(self):
        return image_info(
            "pictures", (8, 8, 3), ("a", "b"), {"train": 24, "val": 6, "test": 6}, "1"
        )

    def split(self, name):
        return Pictures(name, {"train": 24}.get(name, 6))


@dataclass(frozen=True)
class Pictures:
    name: str
    count: int

    def __len__(self):
        return self.count

    @property
    def labels(self):
        return np.arange(self.count) % 2

    def __getitem__(self, number):
        if self.name != "train":
            raise RuntimeError(f"{self.name} was read")
        image = np.random.default_rng(number).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        return {"image": image, "label": number % 2}


def table(tiny, **changes):
    return tiny(**{"strategy": {"name": f"{__file__}:Looks"}, "steps": 4, "seed": 5, **changes})


def test_it_sees_numbers_as_loaded_and_every_training_example_once(tiny):
    experiment = assemble(parse(table(tiny, augmentation=["flip"])))
    index, images, parts, kernel = experiment.strategy.seen
    assert sorted(index) == sorted(experiment.splits.train.indices)
    assert parts == {"backbone", "head"}
    begun = experiment.variables.params["backbone"]["stage1"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, begun)
    first = experiment.splits.train[0]["image"]
    np.testing.assert_array_equal(images[0], first)  # not augmented
    assert experiment.phases[0].model.frozen == 1
    assert experiment.strategy.frozen == ("stage1",)


def test_neither_validation_nor_test_is_read(tiny):
    data = {"name": f"{__file__}:TrainingAlone"}
    experiment = assemble(parse(table(tiny, data=data)))
    assert len(experiment.strategy.seen[0]) == 24


@pytest.mark.parametrize(
    ("way", "match"),
    [
        ("raises", r"`setup` of the strategy '.*Looks' fails .*line \d+\): ValueError: nothing to"),
        ("nothing", r"`setup` .* has to return the strategy .* it returns nothing .*replace\(self"),
        ("a_list", r"does not hash \(unhashable type: 'list'\).* tuples in place of lists"),
        ("a_class", r"`setup` .* returns a type"),
        ("brings", r"brings other divergences or sources"),
    ],
)
def test_what_goes_wrong_in_it_is_a_sentence(tiny, way, match):
    with pytest.raises(ContractError, match=match):
        assemble(parse(table(tiny, strategy={"name": f"{__file__}:Looks", "way": way})))


def test_a_run_tells_what_was_found_and_goes_on_bit_by_bit(tiny, tmp_path, capsys, monkeypatch):
    whole = tlx.run(table(tiny, steps=8), out=tmp_path / "whole")
    assert "It has looked at 69 pictures." in " ".join(capsys.readouterr().out.split())
    assert list(whole["setup"]["frozen"]) == ["stage1"]
    with monkeypatch.context() as patch:
        count = iter(range(1, 100))
        patch.setattr(loop, "interruptible", lambda: nullcontext(lambda: next(count) >= 3))
        with pytest.raises(Interrupted):
            tlx.run(table(tiny, steps=8), out=tmp_path / "cut")
    tlx.run(table(tiny, steps=8), out=tmp_path / "cut", resume=True)
    numbers = [tlx.load(tmp_path / n, trust_code=True).variables for n in ("whole", "cut")]
    for one, other in zip(*map(jax.tree.leaves, numbers), strict=True):
        np.testing.assert_array_equal(one, other)
    again = evaluate_run(tmp_path / "whole", trust_code=True)
    assert again["test"]["loss"] == whole["test"]["loss"]


def test_a_run_that_would_find_something_else_is_not_gone_on_with(tiny, tmp_path):
    out = tmp_path / "run"
    tlx.run(table(tiny), out=out)
    kept = out / "provenance.json"
    assert read_object(kept, "")["strategy"] == {"frozen": ["stage1"]}
    kept.write_text(kept.read_text().replace('"stage1"', '"stage2"'))
    with pytest.raises(CheckpointError, match=r"strategy\.frozen is not what the run .* started"):
        tlx.run(table(tiny, steps=8), out=out, resume=True)


def test_show_tells_it(tiny):
    shown = show.show(parse(table(tiny)))
    assert any("It has looked at 69 pictures." in line for line in show.lines(shown))


def test_what_is_found_decides_what_moves(tiny):
    strategy = {"name": f"{__file__}:Looks", "way": "all"}
    assert assemble(parse(table(tiny, strategy=strategy))).phases[0].model.frozen == 2
