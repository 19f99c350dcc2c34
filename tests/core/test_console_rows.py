"""A run with many evaluations gets some forty rows, its best and its last among them."""

import io

import pytest

from tlx.reporting.console import ROWS, Console
from tlx.types import Event


@pytest.mark.parametrize(("evaluations", "best"), [(30, 7), (400, 123), (400, 400), (5000, 4999)])
def test_rows_of_progress(evaluations, best):
    stream = io.StringIO()
    console = Console(stream)
    console._start = {"phases": [{"steps": evaluations}], "selection": ("accuracy", "max")}
    for step in range(1, evaluations + 1):
        data = {"split": "val", "metrics": {"accuracy": 0.5}, "best": step == best}
        console.emit(Event("eval", step, data))
    rows = stream.getvalue().splitlines()
    assert len(rows) == evaluations or 15 < len(rows) <= ROWS
    assert sum("best" in row for row in rows) == 1
    assert f"step {evaluations:,} of" in rows[-1].replace("  ", " ")
