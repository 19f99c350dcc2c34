"""A picture, a row and a sequence into one network, end to end: trained, cached, stopped and
resumed, measured again, saved and asked."""

import json

import jax
import numpy as np
import pytest

import tlx
from tlx import registry, trees
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import CheckpointError, ConfigError, DataError, Interrupted
from tlx.run_one import evaluate_run
from tlx.testing import toys

HERE = __file__.replace("test_several_inputs", "several_inputs")
TOWERS = {
    "name": "towers",
    "towers": {
        "image": f"{toys.__file__}:ToyBackbone",
        "row": f"{HERE}:dense",
        "dna": {"name": "conv1d", "alphabet": "ACGT", "width": 4, "stages": 2, "kernel": 3},
    },
}
FROZEN = {"name": "finetune", "frozen": ["backbone/image/*"]}
EXTRA = [
    {"name": f"{HERE}:agreement", "label": "agreement", "weight": 0.1},
    {"name": "coral", "weight": 0.1, "schedule": "linear"},
]


@pytest.fixture
def trio(tiny):
    def table(**changes):
        data = {"name": f"{HERE}:Trio"}
        return tiny(data=data, backbone=TOWERS, **changes)

    return table


@pytest.fixture(scope="module")
def asked():
    """The test examples by field, and what they are."""
    split = registry.load("datasets", f"{HERE}:Trio")().split("test")
    columns = {name: [one[name] for one in split] for name in split[0]}
    labels = columns.pop("label")
    return columns, [["red", "green", "blue"][label] for label in labels]


def test_what_is_tested_is_what_is_saved_with_the_cache_and_without(trio, tmp_path, asked):
    values, labels = asked
    domain = {"name": f"{HERE}:Trio", "shift": 1.0}
    run = trio(strategy=FROZEN, divergence=EXTRA, domain=domain)
    results = {}
    for where, changes in (("cached", {}), ("anew", {"cache_gb": 0, "cache_disk_gb": 0})):
        results[where] = tlx.run({**run, **changes}, out=tmp_path / where)
        model = tlx.load(tmp_path / where)
        right = [
            one["class"] == label for one, label in zip(model.predict(values), labels, strict=True)
        ]
        assert np.mean(right) == pytest.approx(results[where]["test"]["accuracy"])
        again = evaluate_run(tmp_path / where)
        assert again["test"]["loss"] == pytest.approx(results[where]["test"]["loss"], rel=1e-5)
    once, anew = results["cached"]["test"], results["anew"]["test"]
    assert once["loss"] == pytest.approx(anew["loss"], rel=1e-3)
    lines = (tmp_path / "cached/metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["kind"] == "train"][-1]
    assert last["divergence/agreement"] > 0
    assert model.features(values)["pooled"].shape == (21, 8 + 8 + 8)
    with pytest.raises(DataError, match="fewer values of row"):
        model.predict({**values, "row": values["row"][:-1]})
    with pytest.raises(DataError, match="given photo, row, dna"):
        model.predict(values["photo"])


def test_a_run_that_was_stopped_ends_to_the_bit_as_one_that_was_not(
    trio, tmp_path, monkeypatch, digests, stopping_after
):
    table = trio(strategy=FROZEN, checkpoint_seconds=60.0)
    tlx.run(table, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping_after(patch, 5)
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "stopped")
    # The rows of the training split have moved, so that another mean would be fitted.
    moved = {**table, "data": {**table["data"], "shift": 3.0}}
    with pytest.raises(CheckpointError):
        tlx.run(moved, out=tmp_path / "stopped", resume=True)
    tlx.run(table, out=tmp_path / "stopped", resume=True)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_what_is_fitted_is_of_the_training_rows_and_part_of_provenance(trio):
    def facts(**options):
        table = trio()
        return assemble(parse({**table, "data": {**table["data"], **options}})).provenance["inputs"]

    plain = facts()
    assert plain.keys() == {"image", "row", "dna"}
    assert facts(shift=5.0, split_shifted="test") == plain
    moved = facts(shift=5.0)
    assert {port for port in plain if plain[port] != moved[port]} == {"row"}


def test_ports_are_bound_by_kind_and_by_what_a_run_file_says(trio):
    experiment = assemble(parse(trio()))
    assert {p.name: (p.entry, p.fields) for p in experiment.model.ports} == {
        "image": ("photo", ("photo",)), "row": ("row", ("row",)), "dna": ("dna", ("dna",)),
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"model\.inputs\.row: the field 'photo' is of the kind"):
        assemble(parse(trio(model={"inputs": {"row": "photo"}})))


def test_pictures_that_are_mixed_beside_a_row_that_is_not_are_refused(trio):
    with pytest.raises(ConfigError, match="what the network is given as 'row' would stay"):
        assemble(parse(trio(augmentation=["flip", "mixup"])))


def test_a_file_of_one_tower_fills_that_tower(tiny, trio, tmp_path):
    tlx.run(tiny(steps=2), out=tmp_path / "source")
    weights = {"name": f"run:{tmp_path / 'source'}", "allow": ["params/backbone/[rd]*"]}
    lora = {"name": "lora", "rank": 2}
    table = trio(weights=weights, strategy=lora, divergence=[{"name": "l2_sp", "weight": 0.1}])
    experiment = assemble(parse(table))
    source = tlx.load(tmp_path / "source").variables
    for one, other in zip(
        jax.tree.leaves(experiment.variables.params["backbone"]["image"]),
        jax.tree.leaves(source.params["backbone"]),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    result = tlx.run(table, out=tmp_path / "run")
    assert result["steps"] == 12


@pytest.mark.parametrize(
    ("strategy", "divergence"),
    [
        (
            {"name": "finetune", "frozen": ["stage1"]},
            [{"name": "l2_sp", "weight": 0.1}, {"name": "feature_l2", "weight": 0.1}],
        ),
        ("feature_transfer", []),
    ],
)
def test_a_network_over_sequences_is_transferred_as_one_over_pictures(
    tiny, tmp_path, strategy, divergence
):
    table = tiny(data={"name": f"{HERE}:Trio"}, backbone=TOWERS["towers"]["dna"])
    tlx.run(table, out=tmp_path / "source")
    table |= {"weights": f"run:{tmp_path / 'source'}", "seed": 1}
    losses = [
        tlx.run(table | {"strategy": strategy, "divergence": divergence, "cache_gb": size,
                         "cache_disk_gb": 0}, out=tmp_path / f"run{size}")["test"]["loss"]
        for size in (1, 0)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    source, after = (tlx.load(tmp_path / name).variables for name in ("source", "run1"))
    moved = {
        path.split("/")[0]
        for path, leaf in trees.flat(after.params["backbone"]).items()
        if (leaf != trees.flat(source.params["backbone"])[path]).any()
    }
    assert moved == ({"stage2"} if divergence else set())
