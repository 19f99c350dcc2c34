"""A call into a plugin: whatever goes wrong in it is a sentence that names it.

A plugin is somebody else's code. What it raises says who was called, what for, and the line of its
own file where that happened; a sentence of its own (`TlxError`) goes through as it is. What it
returns is looked at by whoever called. Opens without importing jax.
"""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

from tlx.errors import ContractError, TlxError, did_you_mean, listed

CORE = Path(__file__).parents[1]
_ON_VALUES = (
    "ConcretizationTypeError",
    "TracerArrayConversionError",
    "TracerIntegerConversionError",
    "NonConcreteBooleanIndexError",
)
"""What jax raises where Python asks a traced array for its value."""


@contextmanager
def calling(who: str, thing: Any, given: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Inside, `thing` is called, which a sentence names `who` ("The divergence 'mine'").

    Any exception but a TlxError becomes a ContractError with its file and line; so does an exit,
    but neither an interrupt nor a device that has run out of memory. `given` is what it was given
    by name: a key that one of these does not have is answered with those that it has."""
    try:
        yield
    except TlxError:
        raise
    except (Exception, SystemExit) as error:
        if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
            raise
        raise ContractError(f"{who} {_failed(error, thing, given or {})}") from error


def has_returned(
    who: str, thing: Any, found: Any, good: bool, wanted: str, advice: str = ""
) -> None:
    """Raise ContractError unless `good`: `who` ("`phases` of the strategy Mine"), which `thing` is
    or belongs to, has returned `found`, and `wanted` is what it has to be; `advice` is a sentence
    on how."""
    if not good:
        raise ContractError(
            f"{who}{where(thing)} has to return {wanted}, and it returns {described(found)}."
            f"{advice and ' '}{advice}"
        )


def has_said(who: str, thing: Any, fault: str) -> None:
    """Raise ContractError where there is a `fault` (of `tlx.contracts.declared`) in what a plugin
    says of itself: `who` ("`info` of the data"), which `thing` is or belongs to."""
    if fault:
        raise ContractError(f"{who}{where(thing)} is not as its contract says: {fault}.")


def described(thing: Any) -> str:
    """What something is, in a few words: `float32[4,3]`, a tuple of 2, nothing."""
    if thing is None:
        return "nothing (None)"
    if hasattr(thing, "dtype") and hasattr(thing, "shape"):
        return f"{thing.dtype}[{','.join(map(str, thing.shape))}]"
    many = f" of {len(thing)}" if isinstance(thing, tuple | list) else ""
    return f"a {type(thing).__name__}{many}"


def called(
    thing: Any, noun: str, member: str, given: Mapping[str, Any] | None = None
) -> AbstractContextManager[None]:
    """`calling` a member of a thing that goes by its class: "`apply` of the head Softmax"."""
    who = f"`{member}` of the {noun} {type(thing).__name__}"
    return calling(who, getattr(thing, member, thing), given)


def where(thing: Any) -> str:
    """` (FILE, line N)` of a plugin, a method or a function; '' where there is no source."""
    code = _code(thing)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code is not None else ""


def _failed(error: BaseException, thing: Any, given: Mapping[str, Any]) -> str:
    place = _raised_at(error, thing)
    said = " ".join(str(error).split())
    kind = type(error).__name__
    if any(base.__name__ in _ON_VALUES for base in type(error).__mro__):
        return (
            f"asks a traced array for its value{place}: with `if`, `float()`, `.item()` or numpy. "
            f"A step is compiled before there are any numbers; use jnp.where, jax.lax.cond and "
            f"the functions of jax.numpy instead."
        )
    if isinstance(error, SystemExit):
        return f"ends the program (SystemExit: {said}){place}. It has to return, or to raise."
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(key, str) and (word := _lacking(key, given)):
        known = [str(name) for name in given[word]]
        return (
            f"reads {word}[{key!r}]{place}, which there is not.{did_you_mean(key, known)} "
            f"`{word}` has: {listed(known)}."
        )
    return f"fails{place}: {kind}{f': {said}' if said else ''}".rstrip(".") + "."


def _lacking(key: str, given: Mapping[str, Any]) -> str:
    """The mapping that was asked for a key: the only one that does not have it, or the one that has
    a name like it; '' where that is not clear."""
    lack = [word for word, value in given.items() if isinstance(value, Mapping)]
    lack = [word for word in lack if key not in given[word]]
    near = [word for word in lack if did_you_mean(key, map(str, given[word]))]
    return next((found[0] for found in (lack, near) if len(found) == 1), "")


def _raised_at(error: BaseException, thing: Any) -> str:
    """The last line of the plugin's own file on the way to the error; of any file that is neither
    the core's nor a library's, where there is none; else where the plugin is defined."""
    code = _code(thing)
    own = code.co_filename if code is not None else None
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if frame.filename == own] or [
        frame for frame in frames if _foreign(frame.filename)
    ]
    return f" ({found[-1].filename}, line {found[-1].lineno})" if found else where(thing)


def _foreign(file: str) -> bool:
    path = Path(file)
    return not path.is_relative_to(CORE) and "site-packages" not in path.parts and path.is_file()


def _code(thing: Any) -> CodeType | None:
    """The code of a function, of a method, of a class, or of what an object is called by."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    thing = inspect.unwrap(thing) if callable(thing) else thing
    for found in (thing, getattr(thing, "__func__", None), _first_method(thing)):
        code = getattr(found, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


def _first_method(thing: Any) -> Any:
    """`__call__` of an object, or the first method that its class defines itself."""
    kind = thing if inspect.isclass(thing) else type(thing)
    own = [
        getattr(member, "fget", None) or member
        for member in vars(kind).values()
        if inspect.isfunction(getattr(member, "fget", None) or member)
    ]
    own = [one for one in own if one.__code__.co_filename != "<string>"]  # a dataclass writes some
    calls = [one for one in own if one.__name__ == "__call__"]
    return next(iter(calls or own), None)
