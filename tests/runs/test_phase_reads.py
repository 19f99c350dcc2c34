"""A forward may need features beside the head's: they are kept of frozen stages, the network does
not end before them, and with the cache a run ends with the numbers that it has without."""

import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tlx.assemble import assemble
from tlx.backbones.shortened import left_out
from tlx.config import parse
from tlx.errors import ConfigError, ContractError
from tlx.protocols import Phase
from tlx.types import Variables
from tlx.weights.saved import load

CACHED = "was computed once"


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier, on another feature than the head's, that serves the loss alone."""

    feature: str = "stage1"
    reads: tuple[str, ...] = ("stage1",)
    frozen: tuple[str, ...] = ("stage1", "stage2")

    def init(self, rng, model, batch):
        (channels,) = (f.channels for f in model.backbone.features if f.name == self.feature)
        return Variables({"kernel": 0.1 * jax.random.normal(rng, (channels, 3))}, {})

    def phases(self, model, steps):
        def group(path):
            part, name = path.split("/")[:2]
            return "frozen" if part == "backbone" and name in self.frozen else part

        phase = Phase(
            name="beside", steps=steps, group=group, forward=self.forward, norm="frozen",
            reads=self.reads,
        )  # fmt: skip
        return (phase,)

    def forward(self, model, variables, batch, constants, *, rng, mode, progress):
        found = model.apply(variables, batch, rng=rng, mode=mode)
        feature = found.features[self.feature]
        mean = feature.reshape(len(feature), -1, feature.shape[-1]).mean(1)
        logits = mean @ variables.params["strategy"]["kernel"]
        more = optax.softmax_cross_entropy_with_integer_labels(logits, batch.targets["label"])
        return found._replace(loss=found.loss + 0.5 * more)


def table(tiny, head="pooled", **options):
    return tiny(
        strategy={"name": f"{__file__}:Auxiliary", **options},
        head={"name": "softmax", "feature": head},
        seed=3,
    )


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("pooled", {}),
        ("pooled", {"frozen": ["stage1"]}),
        ("stage1", {"feature": "pooled", "reads": ["pooled"]}),
    ],
)
def test_a_loss_on_another_feature_is_the_same_from_the_cache(
    tiny, tmp_path, capsys, head, options
):
    run = table(tiny, head, **options)
    once = tlx.run(run, out=tmp_path / "once")
    assert CACHED in capsys.readouterr().out
    anew = tlx.run({**run, "cache_gb": 0}, out=tmp_path / "anew")
    assert CACHED not in capsys.readouterr().out
    numbers = [load(tmp_path / name, trust_code=True).variables for name in ("once", "anew")]
    for one, other in zip(*map(jax.tree.leaves, numbers), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("once", "anew")
    ]
    losses = [[line["loss"] for line in some if "loss" in line] for some in lines]
    assert len(losses[0]) > 3
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert once["test"]["loss"] == pytest.approx(anew["test"]["loss"], rel=1e-3)


def test_a_forward_that_reads_more_than_it_says_is_told_of_reads(tiny):
    match = r"the features stage1, and of .* are kept: pooled. Name them in .* reads = \('stage1',"
    with pytest.raises(ContractError, match=match):
        assemble(parse(table(tiny, reads=[])))
    assert assemble(parse({**table(tiny, reads=[]), "cache_gb": 0})).phases


def test_an_unknown_feature_is_named(tiny):
    with pytest.raises(ConfigError, match=r"`reads` the feature 'stage9'.*has: stage1, stage2, po"):
        assemble(parse(table(tiny, reads=["stage9"])))


def test_the_network_does_not_end_before_what_a_phase_reads(tiny):
    """Also where the forward only passes it on."""
    ends = left_out(assemble(parse(table(tiny, "stage1"))).model.backbone)
    assert ends == ("stage2",)
    whole = assemble(parse(table(tiny, "stage1", reads=["stage1", "stage2"])))
    assert left_out(whole.model.backbone) == ()
    assert jnp.ndim(whole.variables.params["backbone"]["stage2"]["conv"]["kernel"]) == 4
