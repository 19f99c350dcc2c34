"""The options of the step in a run: what it computes, and that the old state's memory is used."""

import numpy as np

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.feeding.feed import streams
from tlx.testing.toys import ToyBackbone
from tlx.training.train_state import fresh_state
from tlx.trees import flat

OPTIONS = [{}, {"remat": True}, {"accumulate": 2}, {"accumulate": 5, "remat": True}]


def still():
    """The toy without dropout."""
    return ToyBackbone(dropout=0.0)


def test_the_old_state_is_donated_and_the_loss_the_same(tiny, recwarn):
    losses = []
    for options in OPTIONS:
        strategy = {"name": "finetune", "norm": "frozen"}
        table = tiny(
            step={"name": "jit", **options}, backbone=f"{__file__}:still", strategy=strategy
        )
        experiment = assemble(parse(table))
        (planned,) = experiment.phases
        with streams(experiment, 0, {}) as batches:
            batch = next(batches)
        train = fresh_state(experiment, planned)
        step = experiment.step.build(
            experiment.objective(planned), experiment.update(planned), planned.trainable, None
        )
        compiled = step.lower(train, experiment.constants, batch).compile()
        _, metrics = compiled(train, experiment.constants, batch)
        kept = [path for path, leaf in flat(train).items() if not leaf.is_deleted()]
        assert not kept, options
        losses.append(float(metrics["loss"][0]))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    assert not [str(found.message) for found in recwarn if "donated" in str(found.message)]


def test_a_run_in_parts_learns(tiny, tmp_path):
    table = tiny(steps=60, eval_every=10, step={"name": "jit", "accumulate": 2, "remat": True})
    found = tlx.run({**table, "precision": "bf16"}, out=tmp_path / "parts")
    assert found["test"]["accuracy"] > 0.8
