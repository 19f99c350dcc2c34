"""A wrapped network runs in every mode, abstractly, before anybody relies on it.

What a framework says of it is told with the module's name, its file and its line, and what would
help. The same passes measure its features: kind, channels and stride.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from tlx import trees
from tlx.backbones.wrapping import abstract_input
from tlx.errors import ContractError, TlxError, listed
from tlx.protocols import Backbone
from tlx.types import FeatureKind, Features, FeatureSpec, Mode, Params, PyTree, State

BATCH = 24
"""Pictures of the abstract batch: a layer may halve it a few times."""
_KINDS: dict[int, FeatureKind] = {2: "vector", 3: "tokens", 4: "map"}
_ON: Mapping[str, bool] = {
    "train": True, "training": True, "is_training": True, "deterministic": False,
    "inference": False, "use_running_average": False, "is_eval": False, "test": False,
}  # fmt: skip
"""What modules call the argument that says they are trained, and its value then."""


class Subject(NamedTuple):
    """Whose network it is: what messages call it, the class or function that it is made by, and
    what to do about an error in a mode (None while it is made)."""

    noun: str
    made_by: Any
    advice: Callable[[Exception, Mode | None], str] = lambda error, mode: ""

    @property
    def file(self) -> str:
        """Where it is written; empty where nobody knows."""
        try:
            return inspect.getsourcefile(self.made_by) or ""
        except TypeError:
            return ""

    def named(self, error: Exception | None = None) -> str:
        """`The linen module Net (net.py, line 12)`, with the line where an error arose in its
        file."""
        name = getattr(self.made_by, "__qualname__", repr(self.made_by))
        frames = traceback.extract_tb(error.__traceback__) if error else []
        lines = [frame.lineno for frame in frames if frame.filename == self.file]
        try:
            line = lines[-1] if lines else inspect.getsourcelines(self.made_by)[1]
        except (OSError, TypeError):
            line = None
        at = f" ({Path(self.file).name}, line {line})" if self.file and line else ""
        return f"The {self.noun} {name}{at}"


def measured(backbone: Backbone, whose: Subject) -> tuple[FeatureSpec, ...]:
    """The specifications of a backbone whose own hold no more than names yet.

    It runs abstractly in each of its modes, on pictures as `abstract_input` makes them. Channels
    are the last axis. Raises ContractError where a mode does not run, where it returns other
    names, what is no feature, or a state of another form."""
    key, one = abstract_input(backbone)
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((BATCH, *leaf.shape[1:]), leaf.dtype), one)
    with _told(whose, None, x):
        variables = jax.eval_shape(backbone.init, key, x)
    seen: dict[Mode, Features] = {}
    specs: tuple[FeatureSpec, ...] = ()
    for mode in sorted(backbone.modes, key=lambda mode: mode != "eval"):

        def run(params: Params, state: State, x: Array, rng: Array, mode: Mode = mode) -> Any:
            return backbone.apply(params, state, x, rng=rng, mode=mode)

        with _told(whose, mode, x):
            seen[mode], state = jax.eval_shape(run, *variables, x, key)
            _check_state(variables.state, state, mode)
            specs = tuple(_spec(spec.name, seen[mode][spec.name], x) for spec in backbone.features)
            first = next(iter(seen))
            for spec in backbone.features:
                _check_same(spec.name, seen[first][spec.name], seen[mode][spec.name], first)
    return specs


@contextmanager
def _told(whose: Subject, mode: Mode | None, x: PyTree) -> Any:
    """Whatever is raised as a ContractError that names the network."""
    doing = "cannot be made" if mode is None else f"cannot run in mode {mode!r}"
    try:
        yield
    except TlxError as error:
        raise type(error)(f"{whose.named()}: {error}") from error
    except Exception as error:
        advice = whose.advice(error, mode) or general_advice(error)
        raise ContractError(
            f"{whose.named(error)} {doing} on {_given(x)}: {type(error).__name__}: "
            f"{first_words(error)}{advice and ' ' + advice}"
        ) from error


def _given(x: PyTree) -> str:
    """What a network is given, in words."""
    if hasattr(x, "shape"):
        return f"{'pictures' if x.ndim == 4 else 'values'} {x.shape}"
    return f"values { ({path: leaf.shape for path, leaf in trees.flat(x).items()}) }"


def first_words(error: BaseException) -> str:
    """What an error says, up to its first empty line, in one line that ends with a full stop."""
    said = " ".join(str(error).strip().split("\n\n")[0].split())[:400].rstrip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def general_advice(error: Exception) -> str:
    """What helps whatever the framework."""
    if axis := re.search(r"unbound axis name:?\s*['\"]?(\w+)", str(error)):
        return (
            f"A layer of it speaks of an axis {axis[1]!r} over which devices or examples would be "
            f"averaged. tlx computes over the whole batch: leave the axis name out."
        )
    return ""


def call_advice(method: Any, arguments: Mapping[str, Any], given: int = 1) -> str:
    """What to say in `modes` for a module whose `method` is called with `given` positional
    arguments and with `arguments`; empty where it takes these."""
    takes = other_arguments(method, given)
    if takes is None or (
        set(arguments) <= set(takes) and all(name in arguments for name in takes if takes[name])
    ):
        return ""
    said = ", ".join(f"{name}={value}" for name, value in arguments.items()) or "nothing else"
    modes = _modes([name for name in takes if name in _ON])
    return (
        f"It is called with a picture and {said}; besides the picture it takes {listed(takes)}. "
        f"Say what it is called with in each mode: modes={modes}."
    )


def other_arguments(method: Any, given: int = 1) -> dict[str, bool] | None:
    """What a method takes besides itself and `given` positional arguments, each with whether it
    must be given; None for one that takes anything or shows nothing."""
    try:
        _, *parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    rest = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    first = [p for p in rest if p.kind is not p.KEYWORD_ONLY][:given]
    return {p.name: p.default is p.empty for p in rest if p not in first}


def _modes(names: list[str]) -> str:
    """`modes` for a module that takes these arguments."""
    on = {name: _ON[name] for name in names}
    modes = {"train": on, "eval": {name: not value for name, value in on.items()}}
    if "use_running_average" in on and len(on) > 1:
        modes["tune"] = {**on, "use_running_average": True}
    return str(modes).replace("'", '"')


def _spec(name: str, feature: Any, x: Any) -> FeatureSpec:
    shape = getattr(feature, "shape", None)
    if shape is None:
        raise ContractError(
            f"The feature {name!r} is a {type(feature).__name__}. A feature is an array: a map "
            f"(B,h,w,C), tokens (B,T,C) or a vector (B,C). Return each under a name of its own."
        )
    if len(shape) not in _KINDS or shape[0] != BATCH or not min(shape):
        raise ContractError(
            f"The feature {name!r} has shape {shape} for {BATCH} examples. A feature is a map "
            "(B,h,w,C), tokens (B,T,C) or a vector (B,C)."
        )
    if not jnp.issubdtype(feature.dtype, jnp.floating):
        raise ContractError(
            f"The feature {name!r} holds {feature.dtype}. A feature is made of floating-point "
            f"numbers, through which a gradient flows."
        )
    kind = _KINDS[len(shape)]
    # Padding makes a map a pixel larger or smaller than its stride says, hence the rounding.
    maps = [leaf for leaf in jax.tree.leaves(x) if leaf.ndim == 4]
    stride = max(1, round(maps[0].shape[1] / shape[1])) if kind == "map" and maps else None
    return FeatureSpec(name, kind, shape[-1], stride)


def _check_same(name: str, first: Any, feature: Any, mode: Mode) -> None:
    if first.shape != feature.shape:
        raise ContractError(
            f"The feature {name!r} has shape {feature.shape}, but {first.shape} in mode {mode!r}."
        )


def _check_state(before: State, after: State, mode: Mode) -> None:
    """A pass leaves a state of the same form."""
    old, new = (
        {path: (leaf.shape, leaf.dtype) for path, leaf in trees.flat(state).items()}
        for state in (before, after)
    )
    other = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    if other:
        was, now = (_form(each.get(other[0])) for each in (old, new))
        raise ContractError(
            f"Its state has another form after a pass in mode {mode!r}: {other[0]!r} was {was} and "
            f"is {now}. What a pass leaves is what the next one is given."
        )


def _form(leaf: tuple[tuple[int, ...], Any] | None) -> str:
    return "not there" if leaf is None else f"{leaf[1]} {leaf[0]}"
