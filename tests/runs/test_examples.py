"""What lies in `examples/` works: run files pass every check, programs do what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tlx import config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "path",
    [*ROOT.glob("examples/*.toml"), *ROOT.glob("benchmarks/*/*.toml")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_run_files_name_what_is_installed(path: Path) -> None:
    config.check(config.read(path))


def test_the_loop_by_hand_learns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task loss falls while the divergence, zero at the source, starts to count."""
    by_hand = runpy.run_path(str(ROOT / "examples" / "by_hand.py"))
    monkeypatch.setitem(by_hand["main"].__globals__, "STEPS", 15)
    by_hand["main"]()
    said = capsys.readouterr().out
    loss, moved = (
        [float(value) for value in re.findall(rf"{name} ([\d.]+)", said)]
        for name in ("task loss", "l2_sp")
    )
    assert len(loss) == 3
    assert loss[-1] < loss[0] / 2
    assert moved[-1] > 0
