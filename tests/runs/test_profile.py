"""Where the time of a run goes: parts that add up, the slow one named, nothing unless asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from tlx_data.image_info import image_info

import tlx
from tlx import cli, loop
from tlx.checkpoint import Checkpoints
from tlx.errors import ContractError
from tlx.training.profile import Clock


@dataclass
class Pictures:
    """Every one takes its time."""

    count: int
    seconds: float

    @property
    def labels(self) -> np.ndarray:
        return np.arange(self.count) % 3

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        time.sleep(self.seconds)
        image = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
        return {"image": image, "label": index % 3}


@dataclass(frozen=True)
class Slow:
    """A data source with a split that takes `seconds` a picture."""

    slow: str
    seconds: float

    @property
    def info(self) -> Any:
        sizes = {"train": 60, "val": 12, "test": 12}
        return image_info("slow", (8, 8, 3), ("a", "b", "c"), sizes, repr(self))

    def split(self, name: str) -> Pictures:
        return Pictures(self.info.splits[name], self.seconds if name == self.slow else 0.0)


def adds_up(result: Mapping[str, Any]) -> bool:
    return sum(result["profile"].values()) == pytest.approx(result["seconds"], abs=0.005)


def slowest(result: Mapping[str, Any]) -> str:
    """But for compiling, which takes a toy longer than all of its steps."""
    return next(part for part in result["profile"] if part != "compile")


def data(slow: str, seconds: float) -> dict[str, Any]:
    return {"name": f"{__file__}:Slow", "slow": slow, "seconds": seconds}


def test_the_parts_add_up_and_are_said(tiny, tmp_path, capsys):
    frozen = {"name": "finetune", "frozen": ["stage1"]}
    result = tlx.run(tiny(sink=["html"], strategy=frozen), out=tmp_path / "run", profile=True)
    parts = result["profile"]
    assert adds_up(result)
    assert {"setup", "input", "compile", "step", "evaluation", "checkpoint"} <= parts.keys()
    assert {"frozen prefix", "trace", "rest"} <= parts.keys()
    assert all(seconds > 0 for seconds in parts.values())
    assert list(parts.values()) == sorted(parts.values(), reverse=True)
    assert json.loads((tmp_path / "run/result.json").read_text())["profile"] == parts
    said = f"to {next(iter(parts))} "
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "run/report.html").read_text()
    traces = list((tmp_path / "run/profile").rglob("*.xplane.pb"))
    assert traces
    assert sum(trace.stat().st_size for trace in traces) < 5e6


@pytest.mark.parametrize(
    ("slow", "changes"),
    [
        ("input", {"data": data("train", 0.03), "eval_every": 10.0}),
        ("evaluation", {"data": data("val", 0.1)}),
    ],
)
def test_what_is_slow_is_named_first(tiny, tmp_path, slow, changes):
    result = tlx.run(tiny(**changes), out=tmp_path / "run", profile=True)
    assert slowest(result) == slow
    assert adds_up(result)


def test_a_slow_checkpoint_is_named_first(tiny, tmp_path, monkeypatch):
    real = Checkpoints._write

    def slow(*arguments):
        time.sleep(1)
        return real(*arguments)

    monkeypatch.setattr(Checkpoints, "_write", slow)
    result = tlx.run(tiny(), out=tmp_path / "run", profile=True)
    assert slowest(result) == "checkpoint"
    assert adds_up(result)


def test_nothing_is_waited_for_or_left_unless_asked(tiny, tmp_path, monkeypatch):
    """But for its pace: after the first step of a phase, and once some steps later."""
    waited, real = [], jax.block_until_ready

    def never(*_: Any) -> None:
        raise AssertionError("a run that is not profiled was measured")

    def wait(arrays: Any) -> Any:
        waited.append(arrays)
        return real(arrays)

    monkeypatch.setattr(jax, "block_until_ready", wait)
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", never)
    monkeypatch.setattr(jax.profiler, "start_trace", never)
    result = tlx.run(tiny(), out=tmp_path / "run")
    assert "profile" not in result
    assert not (tmp_path / "run/profile").exists()
    assert len(waited) == 2


def test_a_run_that_fails_leaves_no_listener(tiny, tmp_path, monkeypatch):
    from jax._src import monitoring

    before = monitoring.get_event_duration_listeners()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "feeding", lambda *_, **__: 1 / 0)
        with pytest.raises(ContractError, match="ZeroDivisionError"):
            tlx.run(tiny(), out=tmp_path / "run", profile=True)
    assert monitoring.get_event_duration_listeners() == before


def test_the_next_batch_is_fetched_before_a_step_is_waited_for(tiny, tmp_path, monkeypatch):
    """So that its transfer and the step overlap."""
    told: list[tuple[str, int]] = []
    real = Clock.next

    def fetched(clock, batches):
        told.append(("batch", sum(kind == "batch" for kind, _ in told) + 1))
        return real(clock, batches)

    def logged(self, planned, number, waiting, *rest, **options):
        told.append(("log", number))
        return log(self, planned, number, waiting, *rest, **options)

    log = loop._Loop._log
    monkeypatch.setattr(Clock, "next", fetched)
    monkeypatch.setattr(loop._Loop, "_log", logged)
    tlx.run(tiny(log_every=1), out=tmp_path / "run")
    for step in range(1, 12):
        assert told.index(("batch", step + 1)) < told.index(("log", step))
    assert ("batch", 13) not in told


@pytest.mark.parametrize("verb", [["run", "run.toml"], ["finetune", "photos"]])
def test_the_command_line_asks_for_it(verb, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('data = "digits"\nbackbone = "resnet20"\nepochs = 1\n')
    (tmp_path / "photos/a").mkdir(parents=True)
    monkeypatch.setattr("tlx.study.run", lambda _, **options: asked.update(options))
    assert cli.main([*verb, "--profile"]) == cli.FINE
    assert asked["profile"] is True
    assert cli.main(verb) == cli.FINE
    assert asked["profile"] is False
