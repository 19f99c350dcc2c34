"""Files of strangers: whatever is done to them, reading gives a value or a sentence.

Many by hand (`-m fuzz`), some of the same with every run. The driver itself is held against readers
that do what it looks for.
"""

from pathlib import Path

import pytest

from tlx.testing.fuzzing import survived

HERE = Path(__file__).parent
PROGRAMS = {"run_files": (300, 16_000), "pictures": (800, 20_000), "folders": (150, 10_000)}
PLUGINS = {"peak": 400.0, "growth": 200.0, "seconds": 30.0}  # each takes part in a run
PEAK = {"pictures": 600.0}
"""In MB: a few bytes of WebP may be any number of pixels, up to what is read at all."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_mutated_files(name, tmp_path):
    survived(
        HERE / f"fuzz_{name}.py", tmp_path, PROGRAMS[name][0], seed=0, peak=PEAK.get(name, 150)
    )


@pytest.mark.fuzz
@pytest.mark.parametrize("name", PROGRAMS)
def test_many_mutated_files(name, tmp_path):
    survived(
        HERE / f"fuzz_{name}.py", tmp_path, PROGRAMS[name][1], seed=1, peak=PEAK.get(name, 150)
    )


def test_edited_plugins(tmp_path):
    survived(HERE / "fuzz_plugins.py", tmp_path, 12, seed=0, **PLUGINS)


@pytest.mark.fuzz
def test_many_edited_plugins(tmp_path):
    survived(HERE / "fuzz_plugins.py", tmp_path, 400, seed=1, **PLUGINS)


READERS = {
    "raised": ("ValueError: 3", "if damaged: raise ValueError(3)"),
    "hangs": ("Hang", "while damaged: pass"),
    "took more than": ("150 MB", "if damaged: bytearray(200_000_000)"),
    "does not fit": ("MemoryError", "if damaged: bytearray(4_000_000_000)"),
    "grew": ("memory grew", "kept.append(bytearray(300_000))"),
    "alike": ("end alike", "return"),
    "ended": ("ended with", "if damaged: os.abort()"),
}


@pytest.mark.parametrize(("said", "body"), READERS.values(), ids=READERS)
def test_the_driver_notices_a_reader_that(said, body, tmp_path):
    (tmp_path / "reader.py").write_text(f"""
import os
from tlx.errors import TlxError
from tlx.testing import fuzzing
kept = []
def read(path):
    damaged = path.read_bytes() != b"good"
    {body}
    if damaged and path.read_bytes()[:1] != b"g": raise TlxError("no")
def inputs(folder):
    yield fuzzing.Input(folder / "file", b"good", fuzzing.changed_bytes, read)
fuzzing.main(inputs, seconds={0.1 if "while" in body else 10})
""")
    with pytest.raises(AssertionError, match=said):
        survived(tmp_path / "reader.py", tmp_path, 200 if "grew" in said else 40, seed=0)


def test_a_careful_reader_survives(tmp_path):
    (tmp_path / "reader.py").write_text("""
from tlx.errors import TlxError
from tlx.testing import fuzzing
def read(path):
    if path.read_bytes()[:1] != b"g": raise TlxError("no")
def inputs(folder):
    yield fuzzing.Input(folder / "file", b"good", fuzzing.changed_bytes, read)
fuzzing.main(inputs)
""")
    report = survived(tmp_path / "reader.py", tmp_path, 200, seed=0)
    assert report["inputs"] == report["accepted"] + report["refused"] == 200
