"""Strategies of an outside author in a file each, through documented contracts alone: what is
tested is what is saved and predicts, with the cache and without."""

import numpy as np
import pytest

import tlx
from tlx import trees
from tlx.assemble import assemble
from tlx.config import parse
from tlx.run_one import evaluate_run

IA3 = '''
"""(IA)^3: activations are multiplied by learnt vectors that begin at 1 (arXiv:2205.05638)."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tlx.protocols import Phase
from tlx.types import Variables


def forward(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


def group(path):
    return "frozen" if path.startswith("backbone/") else path.split("/")[0]


@dataclass(frozen=True)
class IA3:
    stage: str = ""

    def init(self, rng, model, batch):
        params = jax.eval_shape(model.init, rng, batch).params["backbone"]
        scales = {}
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            info = model.backbone.leaf(path)
            if info.kind == "kernel" and self.stage in ("", info.stage):
                out = info.out if isinstance(info.out, tuple) else (info.out,)
                out = {axis % leaf.ndim for axis in out + info.layers}
                shape = [n if axis in out else 1 for axis, n in enumerate(leaf.shape)]
                scales[path] = jnp.ones(shape)
        return Variables(scales, {})

    def effective(self, params):
        def scaled(keys, leaf):
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            return leaf * scales[path] if path in scales else leaf

        scales = params["strategy"]
        body = jax.tree_util.tree_map_with_path(scaled, params["backbone"])
        return {**params, "backbone": body}

    def phases(self, model, steps):
        return (Phase(name="ia3", steps=steps, group=group, forward=forward, norm="frozen"),)
'''

SURGICAL = '''
"""Tune the stage with the largest gradient relative to its size (arXiv:2210.11466, Auto-RGN)."""
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from tlx.protocols import Phase
from tlx.types import Variables


def forward(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Surgical:
    block: str = ""

    def setup(self, *, model, variables, batches, rng):
        params, state = variables

        def loss(body, batch):
            own = Variables({**params, "backbone": body}, state)
            return jnp.sum(model.apply(own, batch, rng=rng, mode="eval").loss * batch.weight)

        slope = jax.jit(jax.grad(loss))
        total = [slope(params["backbone"], batch) for batch in batches()]
        total = jax.tree.map(lambda *each: sum(each), *total)

        def size(tree):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)) ** 0.5

        rgn = {name: float(size(total[name]) / size(params["backbone"][name])) for name in total}
        return replace(self, block=max(rgn, key=rgn.get))

    def init(self, rng, model, batch):
        return Variables({}, {})

    def notes(self, model):
        return (f"Of the backbone {self.block} is tuned.",)

    def phases(self, model, steps):
        def group(path):
            part, stage = path.split("/")[:2]
            return "frozen" if part == "backbone" and stage != self.block else part

        return (Phase(name="block", steps=steps, group=group, forward=forward, norm="frozen"),)
'''


@pytest.fixture
def source(tiny, tmp_path):
    tlx.run(tiny(steps=20), out=tmp_path / "source")
    return {"weights": f"run:{tmp_path / 'source'}", "seed": 4}


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        path = tmp_path / f"{name.lower()}.py"
        path.write_text(text)
        return f"{path}:{name}"

    return write


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [("IA3", IA3, {}), ("IA3", IA3, {"stage": "stage2"}), ("Surgical", SURGICAL, {})],
)
def test_tested_is_saved_and_predicted_with_and_without_the_cache(
    tiny, tmp_path, source, written, pictures, name, text, options
):
    strategy = {"name": written(name, text), **options}
    run = tiny(**source, strategy=strategy)
    results = {}
    for where, changes in (("cached", {}), ("anew", {"cache_gb": 0})):
        results[where] = tlx.run({**run, **changes}, out=tmp_path / where)
        model = tlx.load(tmp_path / where, trust_code=True)
        with np.load(pictures) as held:
            said = [found["class"] for found in model.predict(held["x_test"])]
            right = np.mean(np.array(said) == held["class_names"][held["y_test"]])
        assert right == pytest.approx(results[where]["test"]["accuracy"])
        again = evaluate_run(tmp_path / where, trust_code=True)
        assert again["test"]["loss"] == pytest.approx(results[where]["test"]["loss"], rel=1e-5)
    once, anew = results["cached"]["test"], results["anew"]["test"]
    assert once["loss"] == pytest.approx(anew["loss"], rel=1e-3)
    assert results["cached"].get("setup") == results["anew"].get("setup")


def test_ia3_begins_as_its_source_and_learns_a_number_for_each_output(tiny, source, written):
    experiment = assemble(parse(tiny(**source, strategy={"name": written("IA3", IA3)})))
    before, used = experiment.variables, experiment.used(experiment.variables)
    for one, other in zip(
        *(trees.flat(x.params["backbone"]).values() for x in (before, used)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    scales = trees.flat(before.params["strategy"])
    assert {path: leaf.shape for path, leaf in scales.items()} == {
        "stage1/conv/kernel": (1, 1, 1, 4),
        "stage2/conv/kernel": (1, 1, 1, 8),
    }
    head = trees.count(before.params["head"])
    assert experiment.trainable == 12 + head
