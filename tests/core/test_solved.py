"""An exact solver that does not what it should is a sentence, and costs nothing already trained."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import tlx
from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ContractError
from tlx.protocols import Phase, Solution
from tlx.types import Variables


def group(path):
    return "head" if path.startswith("head/") else "frozen"


def forward(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Solver:
    """Returns the head as it was, but for what is wrong in it."""

    way: str

    def __call__(self, model, variables, train, val, *, rng):
        head = variables.params["head"]
        first = next(iter(head))
        if self.way == "raises":
            return head["nowhere"]
        found = {
            "right": Solution(head, "Found."),
            "nothing": None,
            "dict": head,
            "note": Solution(head, 3),
            "other": Solution({"weights": jnp.zeros(3)}, ""),
            "shape": Solution(jax.tree.map(lambda leaf: leaf[..., None], head), ""),
            "nan": Solution({**head, first: head[first].at[0].set(jnp.nan)}, ""),
            "text": Solution({**head, first: "text"}, ""),
        }
        return found[self.way]


def three(model, variables, train, *, rng):
    return Solution(variables.params["head"], "")


@dataclass(frozen=True)
class Strategy:
    """Steps, and then a head that is solved for."""

    way: str

    def init(self, rng, model, batch):
        return Variables({}, {})

    def phases(self, model, steps):
        solve = three if self.way == "three" else Solver(self.way)
        parts = {"group": group, "forward": forward}
        return (
            Phase(name="steps", steps=steps - 1, **parts),
            Phase(name="exact", steps=1, solve=solve, **parts),
        )


def run_file(tiny, way):
    return tiny(strategy={"name": f"{__file__}:Strategy", "way": way}, steps=3)


@pytest.mark.parametrize(
    ("way", "match"),
    [
        ("raises", "fails .*KeyError: 'nowhere'"),
        ("nothing", r"has to return tlx\.protocols\.Solution.* it returns nothing"),
        ("dict", r"has to return tlx\.protocols\.Solution.* it returns a dict"),
        ("note", "a note in words, and it returns a Solution"),
        ("other", "as the head, .* has to keep the form"),
        ("shape", "as the head, .* has to keep the form"),
        ("nan", "numbers that are not finite"),
        ("text", "has to return arrays at .* it returns a str"),
    ],
)
def test_a_solver_that_does_not_what_it_should(tiny, tmp_path, way, match):
    with pytest.raises(ContractError, match=match) as caught:
        tlx.run(run_file(tiny, way), out=tmp_path / "run")
    said = str(caught.value)
    assert "The solver of phase 'exact' of the strategy" in said
    assert f"{Path(__file__).name}, line " in said
    assert said.endswith(".")
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert any("2" in name for name in saved), saved  # what the steps have learnt


def test_a_solver_of_other_parameters_is_refused_before_anything_is_computed(tiny):
    with pytest.raises(ContractError, match=r"`solve` of 'exact' \(.*test_solved\.py, line \d+\)"):
        assemble(parse(run_file(tiny, "three")))


def test_a_solver_that_is_right(tiny, tmp_path):
    assert tlx.run(run_file(tiny, "right"), out=tmp_path / "run")["steps"] == 3
