"""Runs of a study share a compiled step exactly where it is the same program."""

from dataclasses import dataclass

import jax.numpy as jnp
import pytest

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.devices import programs
from tlx.devices.programs import Programs
from tlx.objective import Term
from tlx.training.step_program import StepProgram
from tlx.training.train_state import fresh_state
from tlx.types import Batch

L2 = {"name": "l2", "weight": 0.01}


def step_of(table, batch=10):
    experiment = assemble(parse(table, "the table", names=True))
    planned = experiment.phases[0]
    image, number = jnp.zeros((1, batch, 8, 8, 3), jnp.uint8), jnp.zeros((1, batch), int)
    batches = Batch({"image": image}, {"label": number}, number, jnp.ones((1, batch)))
    arguments = (fresh_state(experiment, planned), experiment.constants, batches)
    return StepProgram(experiment, planned, experiment.objective(planned), arguments)


def changed(table, **changes):
    """`a__b=value` is `--set a.b=value`."""
    table = {**table, "optimizer": dict(table["optimizer"]), "divergence": [dict(L2)]}
    for key, value in changes.items():
        top, _, below = key.partition("__")
        if top == "divergence":
            table[top][0][below] = value
        elif below:
            table[top] = {**table[top], below: value}
        else:
            table[top] = value
    return table


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3},
        {"optimizer__learning_rate": 0.5, "optimizer__weight_decay": 0.1},
        {"divergence__weight": 3.0},
        {"data__split_seed": 4, "name": "another", "log_every": 1, "patience": 2},
    ],
)
def test_what_a_step_is_told_leaves_the_program_as_it_is(tiny, changes):
    assert step_of(changed(tiny())).recipe == step_of(changed(tiny(), **changes)).recipe


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 13},
        {"optimizer__schedule": "linear"},
        {"optimizer__clip": 1.0},
        {"optimizer__name": "adamw"},
        {"optimizer__on_nan": "skip"},
        {"divergence__schedule": "linear"},
        {"divergence__label": "another"},
        {"augmentation": ["flip"]},
        {"strategy": {"name": "finetune", "backbone_lr": 0.1}},
        {"strategy": "bitfit"},
        {"precision": "bf16"},
        {"step": {"name": "jit", "accumulate": 2}},
    ],
    ids=str,
)
def test_everything_else_makes_another(tiny, changes):
    assert step_of(changed(tiny())).recipe != step_of(changed(tiny(), **changes)).recipe


def test_another_batch_or_another_network_makes_another(tiny):
    same = step_of(tiny())
    assert same.recipe != step_of(tiny(), batch=5).recipe
    wide = {"name": tiny()["backbone"], "width": 5}
    assert same.recipe != step_of(tiny(backbone=wide)).recipe
    other_dropout = {"name": tiny()["backbone"], "dropout": 0.2}  # arrays of the same shapes
    assert same.recipe != step_of(tiny(backbone=other_dropout)).recipe


@dataclass(frozen=True)
class Listed:
    """A divergence of somebody who keeps a list, so that it has no hash."""

    factors: list

    def __call__(self, *, params):
        return jnp.float32(self.factors[0])


def test_what_has_no_hash_shares_nothing(tiny):
    step = step_of(tiny())
    term = Term("listed", Listed([1.0]))
    step = step._replace(objective=type(step.objective)(
        step.objective.model, step.objective.forward, (term,)
    ))  # fmt: skip
    assert step.recipe != step.recipe


def test_a_study_compiles_once_and_ends_as_its_runs_by_themselves(tiny, tmp_path):
    changes = [{}, {"seed": 7, "optimizer__learning_rate": 0.03}, {"steps": 7}]
    tables = [changed(tiny(steps=6), **change) for change in changes]
    variants = [{**table, "name": f"v{n}"} for n, table in enumerate(tables)]
    study = tlx.run(tables[0] | {"variant": variants}, out=tmp_path / "study")["variants"].values()
    assert [done["compile_seconds"] > 0 for done in study] == [True, False, True]
    for number, (table, done) in enumerate(zip(tables, study, strict=True)):
        alone = tlx.run(table, out=tmp_path / str(number))
        assert (alone["test"], alone["val"]) == (done["test"], done["val"])


def test_a_few_are_kept_and_the_youngest_stay(monkeypatch):
    monkeypatch.setattr(programs, "LIMIT", 2)
    kept = Programs()
    kept.keep("a", 1)
    kept.keep("b", 2)
    assert kept.get("a") == 1
    kept.keep("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
