"""A picture and the row beside it, of one table, into one network of two ports."""

import csv

import numpy as np
import pytest
from PIL import Image

import tlx

BOTH = '''
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from tlx_image import ImageInput
from tlx_table import RowInput

from tlx.types import FeatureSpec, LeafInfo, Variables


@dataclass(frozen=True)
class Both:
    """The mean colour of a picture and a row, in a layer together."""

    width: int = 16
    modes = frozenset({"train", "tune", "eval"})

    @property
    def inputs(self):
        return {"image": ImageInput(size=(6, 6)), "row": RowInput()}

    @property
    def features(self):
        return (FeatureSpec("pooled", "vector", self.width),)

    def leaf(self, path):
        return LeafInfo("all", "bias" if path == "bias" else "kernel")

    def init(self, rng, x):
        wide = 3 + x["row"].shape[-1]
        kernel = jax.random.normal(rng, (wide, self.width)) / wide**0.5
        return Variables({"kernel": kernel, "bias": jnp.zeros(self.width)}, {})

    def apply(self, params, state, x, *, rng, mode):
        both = jnp.concatenate([4 * x["image"].mean((1, 2)) - 2, x["row"]], axis=-1)
        return {"pooled": jax.nn.tanh(both @ params["kernel"] + params["bias"])}, state
'''


@pytest.fixture
def table(tmp_path):
    """Pictures that are bright or dark and rows that say warm or cold; the label says whether both
    agree, so that neither alone says anything of it."""
    rng = np.random.default_rng(0)
    with (tmp_path / "both.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["photo", "warmth", "size", "label"])
        for number in range(120):
            bright, warm = rng.integers(2, size=2)
            shade = np.full((6, 6, 3), 200 * bright + rng.integers(50), np.uint8)
            Image.fromarray(shade).save(tmp_path / f"{number}.png")
            word = ("cold", "warm")[warm]
            rows.writerow([f"{number}.png", word, f"{rng.normal():.2f}", "ny"[int(bright == warm)]])
    (tmp_path / "both.py").write_text(BOTH)
    return tmp_path / "both.csv"


def test_a_network_learns_what_only_both_say(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    run = {
        "name": "both", "epochs": 30, "batch_size": 20, "eval_every": 15, "sink": [],
        "data": {"name": "table", "path": str(table), "fields": {"image": {}, "row": {}}},
        "backbone": "both.py:Both", "strategy": "finetune",
        "optimizer": {"name": "adam", "learning_rate": 0.03},
    }  # fmt: skip
    result = tlx.run(run)
    assert result["test"]["accuracy"] > 0.9
    model = tlx.load("runs/both", trust_code=True)
    given = {
        "image": [np.full((6, 6, 3), 250, np.uint8)] * 2,
        "row": [{"warmth": word, "size": 0} for word in ("warm", "cold")],
    }
    assert [one["class"] for one in model.predict(given)] == ["y", "n"]
