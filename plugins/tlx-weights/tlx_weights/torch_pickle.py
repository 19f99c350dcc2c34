"""A machine that reads the pickles of PyTorch and can build data only.

A pickle is a program for a stack machine. Python's own machine calls whatever the program names;
this one has no way to call anything: a name is looked up in `torch_globals`, and what is not
there is refused. It runs over `pickletools.genops`, which splits the program into its steps and
executes none of them. It never recurses, so depth costs nothing, and a step takes and makes a
constant number of objects, so their number is bounded by that of the steps.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from tlx.errors import Refused
from tlx_weights.pickled_arrays import PickledArray, PickledType
from tlx_weights.torch_globals import Inert, called, named, pairs

MOST_STEPS = 5_000_000
"""A tensor takes about 30; a network with its optimizer some ten thousand tensors."""
MARK = object()


def load(stream: BinaryIO, storage: Callable[[Any], Any]) -> Any:
    """What the next pickle in a stream builds; the stream is left behind it.

    `storage` makes a storage of a persistent id. Raises Refused for what is no data; what else a
    damaged program raises (an empty stack, text that is no UTF-8) is left to the caller."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for step, argument in _steps(stream):
        match step:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                _above(stack)
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(step == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(step[-1]))]
                stack.append(tuple(reversed(items)))
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(_above(stack)))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "LIST":
                stack.append(_above(stack))
            case "APPEND":
                item = stack.pop()
                _top(stack, list).append(item)
            case "APPENDS" | "ADDITEMS":
                items = _above(stack)
                _top(stack, list).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = _above(stack)
                stack.append({})
                _put(stack, items)
            case "SETITEM":
                items = [stack.pop(-2), stack.pop()]
                _put(stack, items)
            case "SETITEMS":
                _put(stack, _above(stack))
            case "GLOBAL":
                stack.append(named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                module, name = stack.pop(-2), stack.pop()
                stack.append(named(module, name))
            case "REDUCE" | "NEWOBJ":
                name, arguments = stack.pop(-2), stack.pop()
                stack.append(called(name, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], PickledArray | PickledType):
                    stack[-1].build(state)
                elif not isinstance(stack[-1], dict | Inert):  # those of a dict hold no numbers
                    raise Refused("is damaged: it gives attributes to what can have none.")
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case (
                "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4"
                | "FLOAT" | "BINFLOAT" | "STRING" | "BINSTRING" | "SHORT_BINSTRING"
                | "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8"
                | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):  # fmt: skip
                stack.append(argument)
            case _:
                raise Refused(f"holds the step {step}, which no tensor needs.")
    raise Refused("is cut short.")  # unless genops has said so before


def _steps(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The steps of the next pickle with their arguments, up to its STOP."""
    for count, (step, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MOST_STEPS:
            raise Refused(f"is no state dict: it takes more than {MOST_STEPS} steps to build.")
        yield step.name, argument


def _above(stack: list[Any]) -> list[Any]:
    """What lies above the last mark, taken off with it."""
    at = len(stack) - 1
    while stack[at] is not MARK:
        at -= 1
        if at < 0:
            raise Refused("is damaged: a step in it needs a mark, and there is none.")
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _top(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise Refused(f"is damaged: it treats a {type(stack[-1]).__name__} as a {kind.__name__}.")
    return stack[-1]


def _put(stack: list[Any], items: list[Any]) -> None:
    """Keys and values in turn, into the dict on top."""
    _top(stack, dict).update(pairs(items[::2], items[1::2]))
