"""The last net around code of a user's own file.

Most calls into a plugin say themselves whom they call (`tlx.contracts.calls`). What goes wrong in a
file anywhere else is known by the frames that it went through, or by a function that the message
names. Opens without importing jax.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tlx.devices.memory import memory_full
from tlx.errors import ContractError, MemoryFullError, TlxError, did_you_mean
from tlx.files.python_file import FILE_MODULE


@contextmanager
def told() -> Iterator[None]:
    """Raise a sentence in place of what a user's file raises, and of a full memory."""
    try:
        yield
    except TlxError:
        raise
    except (Exception, SystemExit) as error:
        if full := memory_full(error):
            raise MemoryFullError(full) from error
        if sentence := in_a_file(error):
            raise ContractError(sentence) from error
        raise


def in_a_file(error: BaseException) -> str | None:
    """The sentence for an error that arose in a user's file, or in calling what it defines; None
    for any other."""
    files = {Path(str(one.__file__)): one for one in _modules()}
    said = " ".join(str(error).split())
    what = f"{type(error).__name__}{f': {said}' if said else ''}".rstrip(".")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename) in files:
            return (
                f"{frame.filename} (line {frame.lineno}, in {frame.name}) does not do what it is "
                f"called for: {what}. The kit of tlx.testing holds a plugin against its contract."
            )
    if isinstance(error, AttributeError) and (made := _made_in(error.obj)):
        name = getattr(error.obj, "__name__", type(error.obj).__name__)
        path, known = made.__file__, [name for name in dir(error.obj) if not name.startswith("_")]
        return (
            f"{path} defines {name}, which has no {error.name!r} as its "
            f"contract says.{did_you_mean(str(error.name), known)} The kit of tlx.testing holds a "
            f"plugin against its contract."
        )
    called = re.match(r"(\w+)(\.\w+)*\(\)", said) if isinstance(error, TypeError) else None
    for path, module in files.items():
        if called and called[1] in vars(module):
            return (
                f"{path} defines what cannot be called as its contract says: {what}. The kit of "
                f"tlx.testing holds a plugin against its contract."
            )
    return None


def _made_in(thing: object) -> ModuleType | None:
    """The module of a user's file that a thing, or its class, is defined in."""
    home = getattr(thing, "__module__", None)
    return next((one for one in _modules() if one.__name__ == home), None)


def _modules() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(FILE_MODULE)]
