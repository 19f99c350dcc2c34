"""Distillation: the objective against PyTorch's, what the preset brings, and a whole run."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies.distill import Distill, Scaled
from tlx_strategies.finetune import Finetune
from torch.nn import functional as F

import tlx
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.protocols import Brings, Strategy
from tlx.registry import build
from tlx.run_file.run_config import DivergenceConfig, SourceConfig
from tlx.testing import toys
from tlx.testing.compiling import compiled_once, quick_jit
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import constants, world
from tlx.types import Forward, Variables

KEY = jax.random.key(0)
HERE = world(8)


def test_what_it_brings():
    strategy = Distill(teacher="runs/large", temperature=2.0, alpha=0.3)
    assert isinstance(strategy, Brings)
    assert isinstance(strategy, Strategy)
    divergences, sources = strategy.brings
    term = DivergenceConfig(
        name="distillation", options={"temperature": 2.0}, weight=0.3, source="teacher"
    )
    assert divergences == (term,)
    assert sources == {"teacher": SourceConfig(run="runs/large")}
    named = Distill(source="large").brings
    assert (named.divergences[0].source, named.sources) == ("large", {})


def test_everything_moves_as_in_fine_tuning():
    (phase,) = Distill(backbone_lr=0.5, norm="frozen").phases(HERE.model, 10)
    (plain,) = Finetune(0.5, "frozen").phases(HERE.model, 10)
    assert replace(phase, name="finetune", forward=plain.forward) == plain
    assert phase.name == "distill"
    assert Distill().init(KEY, HERE.model, HERE.batch) == Variables({}, {})


@pytest.mark.parametrize(("alpha", "temperature"), [(0.25, 3.0), (1.0, 1.0)])
def test_the_objective_is_hintons(alpha, temperature):
    strategy = Distill(alpha=alpha, temperature=temperature)
    (phase,) = strategy.phases(HERE.model, 10)
    (part,) = strategy.brings.divergences
    wide = ToyBackbone(width=7, size=(8, 8), dropout=0.0)
    teacher = Model(wide, HERE.model.head, wide.inputs)
    numbers = quick_jit(teacher.init)(jax.random.key(7), HERE.batch)
    term = Term(part.key, build("divergences", part.name, part.options), part.source)
    # Without chance in the network, so that a training pass can be repeated in PyTorch.
    calm = Model(ToyBackbone(size=(8, 8), dropout=0.0), teacher.head, HERE.model.inputs)
    model = calm.with_frozen(0, "frozen")
    objective = Objective(model, phase.forward, (term,), (("teacher", teacher),))
    given = constants(HERE, divergence={term.name: part.weight})._replace(
        sources={"teacher": numbers}
    )

    def value(head):
        params = {**HERE.variables.params, "head": head}
        return objective(
            params, HERE.variables.state, HERE.batch, given,
            rng=KEY, progress=jnp.float32(0.5),
        )[0]  # fmt: skip

    def outputs(model, variables):
        return model.apply(variables, HERE.batch, rng=KEY, mode="eval")

    head = HERE.variables.params["head"]
    loss, slope = quick_jit(jax.value_and_grad(value))(head)
    student = quick_jit(lambda v: outputs(model, v))(HERE.variables)
    soft = quick_jit(lambda v: outputs(teacher, v).outputs)(numbers)

    kernel, bias = (
        torch.tensor(np.asarray(head[name])).requires_grad_() for name in ("kernel", "bias")
    )
    logits = torch.tensor(np.asarray(student.features["pooled"])) @ kernel + bias
    labels = torch.tensor(np.asarray(HERE.batch.targets["label"])).long()
    wanted = (1 - alpha) * F.cross_entropy(logits, labels)
    wanted = wanted + alpha * temperature**2 * F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.softmax(torch.tensor(np.asarray(soft)) / temperature, 1),
        reduction="batchmean",
    )
    wanted.backward()
    np.testing.assert_allclose(loss, wanted.detach(), rtol=1e-5)
    np.testing.assert_allclose(slope["kernel"], kernel.grad, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(slope["bias"], bias.grad, rtol=1e-4, atol=1e-6)


def test_what_is_reported_is_the_plain_loss():
    passed = Forward(jnp.ones(3), {}, {}, None, {})
    scaled = Scaled(lambda *_, **__: passed, 0.25)
    words = {"rng": KEY, "progress": jnp.float32(0)}

    def loss(mode):
        given = (HERE.model, HERE.variables, HERE.batch, constants(HERE))
        return scaled(*given, mode=mode, **words).loss

    assert loss("eval").tolist() == [1, 1, 1]
    assert loss("train").tolist() == [0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 0.0}, "above 0 and at most 1, not 0.0. The strategy 'finetune'"),
        ({"alpha": 1.1}, "above 0 and at most 1, not 1.1"),
        ({"temperature": 0.0}, "must be above 0, not 0.0"),
        ({"source": "source"}, "which is no teacher"),
        ({"backbone_lr": 0.0}, "backbone_lr"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Distill(**options)


def test_a_run_learns_from_the_teachers_folder(tmp_path):
    label = np.arange(30) % 3
    image = np.random.default_rng(0).integers(0, 120, (30, 8, 8, 3))
    image[np.arange(30), :, :, label] += 100
    np.savez(tmp_path / "data.npz", x_train=image.astype(np.uint8), y_train=label)
    toy = f"{toys.__file__}:ToyBackbone"
    table = {
        "name": "distilled",
        "steps": 2,
        "batch_size": 6,
        "log_every": 1,
        "sink": [],
        "data": {"name": "npz", "path": str(tmp_path / "data.npz"), "val": 6, "test": 6},
    }
    with compiled_once(tmp_path / "programs"):
        tlx.run({**table, "backbone": {"name": toy, "width": 6}}, out=tmp_path / "teacher")
        strategy = {"name": "distill", "teacher": str(tmp_path / "teacher"), "alpha": 0.25}
        result = tlx.run({**table, "backbone": toy, "strategy": strategy}, out=tmp_path / "student")
    assert result["parameters"] < 700
    lines = (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()
    logged = [line for line in map(json.loads, lines) if "divergence/distillation" in line]
    assert logged
    for metrics in logged:
        value = metrics["divergence/distillation"]
        assert value > 0
        assert metrics["divergence/distillation/weighted"] == pytest.approx(0.25 * value)
        total = metrics["task"] + metrics["divergence/distillation/weighted"]
        assert metrics["loss"] == pytest.approx(total)
