"""Fuzzing: a reader is fed damaged files, and has to answer each with a value or a sentence.

A program of its own calls `main` with what it reads; a test calls `survived` with that program,
which then runs with little memory. Each input is a good file with one to a few changes. Whoever
reads files of strangers can be held against this.
"""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

from tlx.errors import TlxError

Change: TypeAlias = Callable[[random.Random, bytes, bytes], bytes]
"""A good file, and another one to take pieces of, as a damaged one."""

MEMORY = 1 << 30
"""Bytes of address space beyond what the program has when it begins."""
SECONDS = 10.0
"""That an input may take before it counts as a hang; far less is asked for of processor time."""
WARM = 0.2
"""Share of the inputs after which memory has to stay what it is."""
INTERESTING = [0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31]
INTERESTING += [2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


class Hang(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


class Input(NamedTuple):
    """A good file: `path` is where it lies while it is read, `change` how it is damaged, `read`
    what reads it, which may raise TlxError alone."""

    path: Path
    data: bytes
    change: Change
    read: Callable[[Path], Any]


def argument(draw: random.Random) -> bytes:
    """A number as files hold them, of 1 to 8 bytes and often at an edge."""
    whole, width = draw.choice(INTERESTING), draw.choice([1, 2, 4, 8])
    if draw.random() < 0.3:
        return whole.to_bytes(8, "big")[8 - width :]
    return whole.to_bytes(8, "little")[:width]


def changed_bytes(draw: random.Random, data: bytes, other: bytes) -> bytes:
    """Bits flipped, bytes replaced, pieces cut, doubled or taken from another file."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        at = draw.randrange(len(changed) + 1)
        match draw.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(changed):
                changed[at] = draw.randrange(256)
            case 2:
                changed[at : at + 8] = argument(draw)
            case 3:
                del changed[at : at + draw.choice([1, 2, 8, 100])]
            case 4:
                del changed[at:]
            case 5:
                begin = draw.randrange(len(other) + 1)
                changed[at:at] = other[begin : begin + draw.choice([1, 8, 64, 10_000])]
            case _:
                changed[at:at] = changed[at : at + draw.choice([1, 8, 64, 10_000])]
    return bytes(changed)


def changed_value(draw: random.Random, value: Any, words: Sequence[str]) -> Any:
    """A tree of dicts, lists and values with one to a few places changed: another type, another
    name, a piece too many or too few, a value in place of a tree. `words` stand for names."""
    scalars = [None, True, -1, 0, 3, 10**6, 2**63, 1e-9, float("nan"), float("inf"), "", "x" * 300]
    value = {"": value}
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        tree, key = draw.choice(list(_places(value)))
        match draw.randrange(8):
            case 0:
                tree[key] = draw.choice(scalars)
            case 1:
                tree[key] = draw.choice(words)
            case 2:
                tree[key] = draw.choice([{}, [], [{}], {"name": {}}, [[[]]], {"": ""}])
            case 3:
                other, name = draw.choice(list(_places(value)))
                tree[key] = json.loads(json.dumps(other[name]))
            case 4 if tree is not value:
                del tree[key]
            case 5 if isinstance(tree, dict) and tree is not value:
                tree[_misspelt(draw, str(key))] = tree.pop(key)
            case 6 if isinstance(tree[key], str):
                tree[key] = _misspelt(draw, tree[key])
            case 7 if isinstance(tree[key], int | float):
                tree[key] = draw.choice([-tree[key], str(tree[key]), tree[key] * 2, [tree[key]]])
            case _:
                for _ in range(draw.choice([1, 3, 60])):
                    tree[key] = draw.choice([[tree[key]], {"a": tree[key]}])
    return value[""]


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(dict or list, key) of every value in a tree."""
    keys: Any = tree if isinstance(tree, dict) else range(len(tree))
    for key in keys:
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _misspelt(draw: random.Random, word: str) -> str:
    at = draw.randrange(len(word) + 1)
    letter = draw.choice(["", "a", "_", ".", "/", "\0", "é", " ", '"', ":"])
    return word[:at] + letter + word[at + draw.choice([0, 1]) :]


def main(
    inputs: Callable[[Path], Iterable[Input]], *, memory: int = MEMORY, seconds: float = SECONDS
) -> None:
    """The program `FOLDER COUNT SEED`: read so many damaged files and print as JSON how it went.

    `inputs(FOLDER)` knows the good files, each of which is read once as it is. What made a reader
    raise anything but a TlxError is left in FOLDER as `crash-N`. `memory` and `seconds`, for
    whoever compiles, stand for MEMORY and SECONDS."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    good = list(inputs(folder))
    for file in good:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        _write(file.path, file.data)
    for file in good:
        file.read(file.path)
    limit = _memory("VmSize:") + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    report = {"inputs": 0, "accepted": 0, "refused": 0, "slowest": 0.0, "other": []}
    began, before, warm = time.perf_counter(), _memory("VmRSS:"), 0
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        file = draw.choice(good)
        with warnings.catch_warnings(action="ignore"):  # of what is damaged
            damaged = file.change(draw, file.data, draw.choice(good).data)
            _write(file.path, damaged)
            at = time.process_time()
            try:
                with _within(seconds):
                    file.read(file.path)
                report["accepted"] += 1
            except TlxError:
                report["refused"] += 1
            except (Exception, Hang) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{number}: {file.path.name}: {type(error).__name__}: {error} ({where})"
                report["other"].append(said[:600])
                (folder / f"crash-{number}{file.path.suffix}").write_bytes(damaged)
        report["slowest"] = max(report["slowest"], time.process_time() - at)
        report["inputs"] += 1
        _write(file.path, file.data)
        if number == int(WARM * count):
            warm = _memory("VmRSS:")
    report["seconds"] = round(time.perf_counter() - began, 1)
    report["peak_mb"] = (_memory("VmHWM:") - before) / 1e6
    report["growth_mb"] = (_memory("VmRSS:") - warm) / 1e6
    print(json.dumps(report))


def survived(
    program: Path,
    folder: Path,
    count: int,
    seed: int,
    *,
    peak: float = 150,
    growth: float = 30,
    seconds: float = 2,
) -> dict[str, Any]:
    """Run a fuzzing program and hold its report against what is asked of a reader: values or our
    own sentences, both of them, within `seconds` of processor time and `peak` MB for an input, and
    `growth` MB for all of them. Returns the report."""
    command = [sys.executable, str(program), str(folder), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{program.name} ended with {done.returncode}: {done.stderr[-3000:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    print(program.name, {**report, "other": report["other"][:10]})
    problems = [
        (report["other"], "something else than a sentence of tlx was raised"),
        (report["inputs"] != count, "not every input was read"),
        (report["slowest"] > seconds, f"an input took longer than {seconds:g} s"),
        (report["peak_mb"] > peak, f"an input took more than {peak:.0f} MB"),
        (report["growth_mb"] > growth, "memory grew with the inputs"),
        (min(report["accepted"], report["refused"]) * 50 < count, "nearly all inputs end alike"),
    ]
    if said := [text for wrong, text in problems if wrong]:
        raise AssertionError(f"{'; '.join(said)}: {report}")
    return report


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise Hang after so long; where a compiled loop does not let it through, end with a trace."""

    def hang(*_: Any) -> NoReturn:
        raise Hang(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, hang)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as stream:  # "wb" would wait for the disk
        stream.write(data)
        stream.truncate()


def _memory(name: str) -> int:
    """Bytes, as Linux counts them."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return int(status[status.index(name) + 1]) * 1024
