"""A head fitted to the bottom: Newton's method on features that were computed once.

A linear head on frozen features is a convex problem, so there is one answer and no learning rate
to find. What is left open is how strongly the head is held to small numbers, and the validation
split answers that: the whole path from strong to weak is one compiled program, each problem
starting where the one before ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tlx.contracts.phase import Examples, Solution
from tlx.errors import ConfigError, DivergedError
from tlx.model import Model
from tlx.numerics.newton_cg import Info, minimise
from tlx.protocols import Head
from tlx.types import Params, Variables

PATH = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5)
"""Half decades, from a head that hardly dares to one that is hardly held."""


class _Fitted(NamedTuple):
    """A head of the path: its parameters, validation loss and measures, and how it ended."""

    params: Params
    loss: Array
    measure: Mapping[str, Any]
    info: Info


Solver: TypeAlias = Literal["steps", "newton"]
"""steps: the run's optimizer, its augmentations and divergences; newton: `ExactHead`."""


@final
@dataclass(frozen=True)
class ExactHead:
    """The minimiser of `mean loss + l2 / 2 * ||kernels||^2` over all training examples.

    The mean is weighted by `weight`, `loss` is the head's in mode 'eval', and the kernels are the
    leaves of rank 2 and more: biases are free. That is scikit-learn's `LogisticRegression` with
    C = 1 / (l2 * n), and its `Ridge` with alpha = l2 * n * outputs / 2. Any head of the contract
    will do whose loss is convex in its parameters.

    Args:
        path: the values of l2 to try, each above 0. The one with the best metric of the head's
            `selection` on validation is taken; of equals the one with the lower loss there, then
            the larger l2.
    """

    path: tuple[float, ...] = PATH

    def __post_init__(self) -> None:
        """Refuse a path on which there is nothing to choose or no single answer."""
        if not self.path or not all(0 < l2 < float("inf") for l2 in self.path):
            raise ConfigError(
                f"path holds the values of l2 to choose from, one or more numbers above 0, not "
                f"{list(self.path)}. Without a penalty a few examples leave the head undetermined."
            )

    def __call__(
        self, model: Model, variables: Variables, train: Examples, val: Examples, *, rng: Array
    ) -> Solution:
        """The best head of the path. Raises DivergedError where no loss is finite."""
        head = model.head
        assert head is not None, "A strategy asks for an exact head only where there is a head."
        start = Variables(variables.params["head"], variables.state["head"])
        path = sorted(set(self.path), reverse=True)
        numbers = jnp.asarray(path, jnp.result_type(*jax.tree.leaves(start.params)))
        found = jax.device_get(_fit(head, start, train, val, numbers, rng))
        every = [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(len(path))]
        if not any(np.isfinite(each.info.value) for each in every):
            raise DivergedError(
                "The loss of the head on the training features is not finite for any l2. Look for "
                "labels that are no classes of the head, or features that are not finite."
            )
        best = min(range(len(path)), key=lambda i: _rank(head, every[i]))
        return Solution(
            jax.tree.map(jnp.asarray, every[best].params), _note(path, best, every[best].info)
        )


def chosen(solver: Solver, path: tuple[float, ...]) -> ExactHead | None:
    """What a probe's phase is solved by, None for steps. Raises ConfigError for a path that has no
    meaning."""
    exact = ExactHead(path)
    if solver == "newton":
        return exact
    if path != PATH:
        raise ConfigError(
            "path holds values of l2 for solver = 'newton', and this probe takes steps, for which "
            "[optimizer] weight_decay is what holds the head. Set solver = 'newton', or leave out "
            "path."
        )
    return None


@partial(jax.jit, static_argnums=0)
def _fit(
    head: Head,
    start: Variables,
    train: Examples,
    val: Examples,
    path: Array,
    rng: Array,
) -> _Fitted:
    """Every head of the path, stacked; each starts at the one before."""

    def answer(params: Params, split: Examples) -> tuple[Array, Any]:
        """(weighted mean loss, outputs) of a split."""
        features, batch = split
        outputs, _ = head.apply(
            params, start.state, features, inputs=batch.inputs, rng=rng, mode="eval"
        )
        weight = batch.weight
        loss = jnp.sum(weight * head.loss(outputs, batch)) / jnp.maximum(weight.sum(), 1)
        return loss, outputs

    def penalised(params: Params, l2: Array) -> Array:
        kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        return answer(params, train)[0] + l2 / 2 * sum(
            jnp.sum(jnp.square(kernel)) for kernel in kernels
        )

    def one(params: Params, l2: Array) -> tuple[Params, _Fitted]:
        params, info = minimise(partial(penalised, l2=l2), params)
        loss, outputs = answer(params, val)
        return params, _Fitted(params, loss, head.measure(outputs, val.batch), info)

    return jax.lax.scan(one, start.params, path)[1]


def _rank(head: Head, fitted: _Fitted) -> tuple[float, float]:
    """Lower is better: the metric the head is selected by, then the loss, on validation."""
    name, direction = head.selection
    loss = float(fitted.loss)
    value = {**head.report(fitted.measure), "loss": loss}[name]
    worst = float("inf")
    return (
        (-value if direction == "max" else value) if np.isfinite(value) else worst,
        loss if np.isfinite(loss) else worst,
    )


def _note(path: list[float], best: int, info: Info) -> str:
    """What was chosen, and what a reader should know about it."""
    text = f"l2 = {path[best]:g}"
    if len(path) > 1:
        text += f" chosen of {len(path)} on validation"
        if best in (0, len(path) - 1):
            end, beyond = ("largest", "larger") if best == 0 else ("smallest", "smaller")
            text += f", the {end} of them: a {beyond} one may be better"
    if not info.converged:
        text += (
            f"; not converged after {int(info.iterations)} Newton steps, the gradient's norm is "
            f"{float(info.gradient_norm):.1e}"
        )
    return f"{text}."
