"""A factory's signature is its configuration schema.

`schema` reads the options off the parameters, `check_options` holds a table of a run file against
them and says everything that is wrong with it at once. Opens without importing jax or pydantic.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, final, get_args

from tlx.contracts.validation import fitted, joined
from tlx.errors import did_you_mean, listed
from tlx.types import LOCATION, Location


@final
@dataclass(frozen=True)
class Option:
    """One option of a factory; `default` is None where it is `required`."""

    name: str
    annotation: Any
    default: Any
    required: bool

    def __str__(self) -> str:
        kind = self.annotation
        kind = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        kind = kind.replace(f"Annotated[str, {LOCATION!r}]", "str")
        kind = kind.replace("Optional[str]", "str | None")
        return f"{self.name} ({kind}{'' if self.required else f' = {self.default!r}'})"


def schema(factory: Callable[..., Any]) -> tuple[Option, ...]:
    """The options of a factory, in order. `*args` and `**kwargs` are none."""
    return tuple(
        Option(
            p.name,
            _annotation(factory, p.annotation),
            None if p.default is p.empty else p.default,
            p.default is p.empty,
        )
        for p in inspect.signature(factory).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    )


def plain_options(thing: Any) -> dict[str, Any]:
    """The options that make a frozen dataclass again, where they are not its defaults."""
    found = {}
    for one in fields(thing):
        value = getattr(thing, one.name)
        if one.init and not (one.default is not MISSING and value == one.default):
            found[one.name] = value
    return found


def locates(annotation: Any) -> bool:
    """Whether an option so annotated says where something lies, or where several things do."""
    if annotation is Location or annotation is Path:
        return True
    return any(map(locates, get_args(annotation)))


def check_options(
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    given: tuple[str, ...] = (),
    where: str = "",
    beside: tuple[str, ...] = (),
) -> list[str]:
    """What is wrong with a table of options, one sentence each; [] where nothing is.

    `given` names parameters that the core fills. `where` is the table's dotted path; `beside`
    are keys that tlx itself knows in it, for a mistyped one."""
    return fitted_options(factory, options, given, where, beside)[1]


def fitted_options(
    factory: Callable[..., Any],
    options: Mapping[str, Any],
    given: tuple[str, ...],
    where: str,
    beside: tuple[str, ...] = (),
) -> tuple[dict[str, Any], list[str]]:
    """(the options as the annotations want them, what is wrong with them).

    Parameters that a `functools.partial` has filled (`scheme:rest`) cannot be set again."""
    known = {o.name: o for o in schema(factory)}
    preset = dict(factory.keywords) if isinstance(factory, functools.partial) else {}
    signature = inspect.signature(factory).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature)
    fitting: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in (preset | dict(options)).items():
        path = joined(where, name)
        if name in preset and name in options:
            problems.append(f"{path}: is already said after ':' in the name ({preset[name]!r}).")
        elif name in known:
            fitting[name], wrong = fitted(known[name].annotation, value, path)
            problems += wrong
        elif open_ended:
            fitting[name] = value
        else:
            allowed = listed([*map(str, known.values()), *beside], none="no options")
            near = did_you_mean(name, [*known, *beside])
            problems.append(f"{path}: unknown option.{near} It takes {allowed}.")
    problems += [
        f"{joined(where, o.name)}: is required ({o})."
        for o in known.values()
        if o.required and o.name not in options and o.name not in given
    ]
    return fitting, problems


def _annotation(factory: Callable[..., Any], annotation: Any) -> Any:
    """The annotation as an object; Any where there is none or it cannot be resolved here."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    while isinstance(factory, functools.partial):
        factory = factory.func
    factory = inspect.unwrap(factory)
    home = sys.modules.get(getattr(factory, "__module__", None) or "")
    try:
        return eval(annotation, dict(vars(home)) if home else {})
    except Exception:  # a name imported for type checkers alone
        return Any
