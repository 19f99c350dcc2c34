"""Surgical fine-tuning: the block with the largest relative gradient norm, held against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_image import ImageInput
from tlx_strategies.surgical import relative_gradient_norms, surgical

import tlx
from tlx import trees
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Explains, HasSetup, Strategy
from tlx.testing import toys
from tlx.testing.world import ToyHead, world
from tlx.types import Batch, FeatureSpec, LeafInfo, Variables

TOY = f"{toys.__file__}:ToyBackbone"
KEY = jax.random.key(0)


class Lines:
    """Two linear layers over the mean colour, in two stages."""

    inputs = ImageInput(size=(4, 4))
    features = (FeatureSpec("pooled", "vector", 5),)
    modes = frozenset({"train", "tune", "eval"})
    stages = ("first", "second")

    def leaf(self, path):
        return LeafInfo(path.split("/")[0], "kernel")

    def init(self, rng, x):
        one, other = jax.random.split(rng)
        params = {
            "first": {"w": jax.random.normal(one, (3, 4))},
            "second": {"w": 0.1 * jax.random.normal(other, (4, 5))},
        }
        return Variables(params, {})

    def apply(self, params, state, x, *, rng, mode):
        hidden = jnp.tanh(x.mean((1, 2)) @ params["first"]["w"])
        return {"pooled": hidden @ params["second"]["w"]}, state

    def apply_stages(self, params, state, carry, *, start, stop, rng, mode):
        found = {}
        if start == 0 < stop:
            carry = jnp.tanh(carry.mean((1, 2)) @ params["first"]["w"])
        if stop == 2:
            found = {"pooled": carry @ params["second"]["w"]}
        return carry, found, state


def batch(seed, weight):
    rng = np.random.default_rng(seed)
    count = len(weight)
    return Batch(
        {"image": rng.random((count, 4, 4, 3), np.float32)},
        {"label": rng.integers(0, 3, count).astype(np.int32)},
        np.arange(count, dtype=np.int32),
        np.asarray(weight, np.float32),
    )


def test_relative_gradient_norms_are_those_of_pytorch():
    model = Model(Lines(), ToyHead(), Lines.inputs)
    batches = [batch(1, [1, 1, 1, 1]), batch(2, [1, 1, 0, 0])]
    variables = model.init(KEY, batches[0])
    found = relative_gradient_norms(model, variables, batches, KEY)

    params = {path: torch.tensor(np.asarray(x)) for path, x in trees.flat(variables.params).items()}
    own = [params[f"backbone/{stage}/w"].requires_grad_() for stage in Lines.stages]
    ratios = []
    for one in batches:
        x = torch.tensor(one.inputs["image"]).mean((1, 2))
        logits = torch.tanh(x @ own[0]) @ own[1] @ params["head/kernel"] + params["head/bias"]
        label = torch.tensor(one.targets["label"]).long()
        each = torch.nn.functional.cross_entropy(logits, label, reduction="none")
        weight = torch.tensor(one.weight)
        slopes = torch.autograd.grad((each * weight).sum() / weight.sum(), own)
        ratios.append(
            [float(g.norm() / w.detach().norm()) for g, w in zip(slopes, own, strict=True)]
        )
    np.testing.assert_allclose(list(found.values()), np.mean(ratios, 0), rtol=1e-4)
    strategy = surgical().setup(model=model, variables=variables, batches=lambda: batches, rng=KEY)
    assert strategy.block == max(found, key=found.get) == "second"
    assert strategy == surgical(block="second")
    (note,) = strategy.notes(model)
    assert note.startswith("Of the backbone second is tuned")
    assert f"{found['first']:.3g}" in note


def test_one_block_and_the_head_move():
    here = world()
    assert all(isinstance(surgical(), kind) for kind in (Strategy, HasSetup, Explains))
    for block, frozen in (("stage1", 0), ("stage2", 1)):
        (only,) = plan(surgical(block, 0.5), here.model, here.variables.params, 7)
        moving = {path for path, moves in trees.flat(only.trainable).items() if moves}
        body = {path for path in moving if path.startswith("backbone/")}
        every = trees.flat(here.variables.params)
        assert body == {path for path in every if path.startswith(f"backbone/{block}/")}
        assert moving - body == {path for path in every if path.startswith("head/")}
        assert (only.model.frozen, only.phase.norm, only.phase.steps) == (frozen, "frozen", 7)
        assert only.phase.lr == {"backbone": 0.5}


def test_refusals():
    here = world()
    with pytest.raises(ConfigError, match=r"block = 'stage9', .* has: stage1, stage2"):
        surgical("stage9").phases(here.model, 5)
    with pytest.raises(ConfigError, match="chooses its block in `setup`"):
        surgical().phases(here.model, 5)
    with pytest.raises(ConfigError, match="backbone_lr"):
        surgical(backbone_lr=0.0)
    zero = {
        **here.variables.params,
        "head": jax.tree.map(jnp.zeros_like, here.variables.params["head"]),
    }
    with pytest.raises(ConfigError, match="is 0 in every stage"):
        surgical().setup(
            model=here.model, variables=Variables(zero, here.variables.state),
            batches=lambda: [here.batch], rng=KEY,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="no head"):
        surgical().setup(
            model=Model(here.model.backbone, None, here.model.inputs), variables=here.variables,
            batches=lambda: [], rng=KEY,
        )  # fmt: skip


def test_a_run_chooses_tells_and_keeps_the_rest(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path = tmp_path / "pictures.npz"
    label = np.arange(40) % 2
    np.savez(
        path, x_train=rng.integers(0, 255, (40, 8, 8, 3)).astype(np.uint8), y_train=label,
        x_test=rng.integers(0, 255, (20, 8, 8, 3)).astype(np.uint8), y_test=label[:20],
    )  # fmt: skip
    table = {
        "name": "surgical", "steps": 4, "batch_size": 10, "backbone": TOY,
        "data": {"name": "npz", "path": str(path)}, "strategy": "surgical",
        "optimizer": {"name": "sgd"}, "sink": [],
    }  # fmt: skip
    result = tlx.run(table, out=tmp_path / "run")
    block = result["setup"]["block"]
    assert f"Of the backbone {block} is tuned" in " ".join(capsys.readouterr().out.split())
    before = trees.flat(assemble(parse(table)).variables.params["backbone"])
    after = trees.flat(tlx.load(tmp_path / "run").variables.params["backbone"])
    moved = {path.split("/")[0] for path in after if not np.array_equal(before[path], after[path])}
    assert moved == {block}
    named = tlx.run(
        {**table, "strategy": {"name": "surgical", "block": block}}, out=tmp_path / "as"
    )
    assert named["test"] == result["test"]
    assert "setup" not in named

    within = {"name": "wise_ft", "of": "surgical", "alpha": 0.5}
    experiment = assemble(parse({**table, "strategy": within}))
    assert experiment.strategy.strategy.block == block
