"""The run as a person follows it, on a terminal or in a log.

A sink like any other: it hears the events that `tlx.sinks` lists and prints a few calm lines.
What the lines say is worded in `tlx.reporting.wording`.
"""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, final

from tlx.reporting.wording import (
    arms,
    comparison,
    duration,
    headline,
    kept,
    observed,
    points,
    results,
    shown,
    spent,
    sweep_outcome,
)
from tlx.types import Event

ROWS = 40
"""Evaluations of a run that get a row each."""


@final
class Console:
    """The run as a person follows it. On a terminal: a bar with loss, accuracy, examples/s and the
    time left. Elsewhere plain lines without colour: one for each evaluation, and one a minute
    where evaluations are further apart."""

    def __init__(self, stream: TextIO | None = None) -> None:
        import rich.console

        self._rich = rich.console.Console(
            file=stream or sys.stdout, highlight=False, markup=False, emoji=False
        )
        self._start: Mapping[str, Any] = {}
        self._train: Mapping[str, Any] = {}
        self._told: list[tuple[str, str]] = []
        self._noted: set[tuple[str, str]] = set()
        self._solved = False
        self._evaluated, self._part, self._passed = 0, 0, ""
        self._bar: Any = None
        self._compiling = False
        self._last = self._drawn = time.monotonic()

    def emit(self, event: Event) -> None:
        """Say it."""
        getattr(self, f"_on_{event.kind}")(event.step, event.data)

    def close(self) -> None:
        """Take the bar off the terminal; harmless when there is none."""
        if self._bar:
            self._bar.stop()
        self._bar = None

    def _say(self, *parts: str | tuple[str, str], end: str = "\n") -> None:
        """Print text, or (text, style) pairs, as one line."""
        from rich.text import Text

        if self._compiling:  # something else came between "compiling" and its seconds
            self._compiling = False
            self._rich.print()
        line = Text.assemble(*parts)
        if not _fits(line.plain, self._rich.encoding):
            line = Text(line.plain.encode("ascii", "replace").decode())
        self._rich.print(line, soft_wrap=True, end=end)
        self._last = time.monotonic()

    def _rows(self, rows: Sequence[tuple[str, str]], style: str = "") -> None:
        width = min(self._rich.width, 100) - 16 if self._rich.is_terminal else 10_000
        before = ""
        for label, text in rows:
            folded = textwrap.wrap(
                text, max(width, 24), break_long_words=False, break_on_hyphens=False
            )
            for line in folded:
                self._say((f"  {label if label != before else '':<10}  ", "dim"), (line, style))
                before = label

    def _table(self, table: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for i, (first, *rest) in enumerate(table):
            cells = [c.rjust(w) for c, w in zip(rest, widths[1:], strict=True)]
            line = "   ".join([f"  {first:<{widths[0]}}", *cells])
            self._say((line.rstrip(), "" if i else "dim"))

    def _on_start(self, step: int, data: Mapping[str, Any]) -> None:
        self.close()
        self._evaluated, self._part, self._passed = 0, 0, ""
        self._start, self._train, variant = data, {}, data.get("variant")
        if variant:
            self._say()
            words = f"variant {variant['number']} of {variant['of']}: {variant['name']}"
        else:
            words = str(data["name"])
        self._say((words, "bold"), f" · writing to {data['out']}")
        rows = headline(data)
        self._rows([r for r in rows if r not in self._told])  # variants share most: said once
        self._told = rows if variant else []
        self._noted = self._noted if variant else set()
        self._say()

    def _total(self) -> int:
        return sum(int(p["steps"]) for p in self._start.get("phases", ()))

    def _on_compile(self, step: int, data: Mapping[str, Any]) -> None:
        seconds, words = data["seconds"], f"  compiling {data['what']}…"
        if seconds is None:
            if not self._bar:
                self._say(words, end="")
                self._compiling = True
        elif self._compiling:
            self._compiling = False
            self._say(f" {duration(float(seconds))}")
        else:
            self._say(f"{words} {duration(float(seconds))}")

    def _on_phase(self, step: int, data: Mapping[str, Any]) -> None:
        phases = self._start.get("phases", ())
        self._solved = any(p.get("solved") for p in phases if p["name"] == data["name"])
        if len(phases) > 1:
            self._say((f"  {data['name']}", "bold"))

    def _on_train(self, step: int, data: Mapping[str, Any]) -> None:
        self._train = data
        if self._rich.is_terminal:
            self._draw(step)
        elif time.monotonic() - self._last > 60:
            self._say("  " + "   ".join([self._at(step), *self._pace(), *self._speed()]))

    def _on_eval(self, step: int, data: Mapping[str, Any]) -> None:
        metrics, split, epoch = data["metrics"], data["split"], data.get("epoch")
        first = (self._start.get("selection") or ("",))[0]
        told = (first, "loss", "knn_accuracy", "rankme")
        names = sorted(metrics, key=lambda m: told.index(m) if m in told else len(told))
        names = names[: max(2, len({*told} & {*names}))]
        words = [self._measured(split, metric, metrics[metric]) for metric in names]
        words.insert(1, "best" if data.get("best") else "    ")
        words += [*(f"train {w}" for w in self._pace()), *self._speed()]
        along = [self._at(step), *([] if epoch is None else [f"epoch {epoch:<4.3g}"])]
        words = [*(["head solved"] if self._solved else along), *words]
        while self._rich.is_terminal and sum(map(len, words)) + 3 * len(words) > self._rich.width:
            words.pop()  # one line: the last says least
        self._show("  " + "   ".join(words).rstrip(), step, bool(data.get("best")))

    def _show(self, row: str, step: int, best: bool) -> None:
        """Print the row of an evaluation. Of more than ROWS in a run only some are, and the best
        of those between."""
        total, gap = self._total(), max(step - self._evaluated, 1)
        part = step * ROWS // (2 * total) if total > ROWS * gap and step < total else -1
        self._evaluated = step
        if part >= 0 and part == self._part:
            self._passed = row if best else self._passed
            return
        self._part = part
        if self._passed and not best:
            self._say(self._passed)
        self._passed = ""
        self._say(row)

    def _measured(self, split: str, metric: str, value: Any) -> str:
        """A metric of a split, with the interval that so many examples leave."""
        sizes = self._start.get("data", {}).get("sizes", {})
        span = observed(metric, value, sizes.get(split))
        said = f"{split} {metric.replace('_', ' ')} {shown(metric, value)}"
        return f"{said} ({span})" if span else said

    def _at(self, step: int) -> str:
        total = f"{self._total():,}"
        return f"step {step:>{len(total)},} of {total}"

    def _pace(self) -> list[str]:
        """Loss and accuracy of training, as far as they are known."""
        known = [m for m in ("loss", "accuracy") if self._train.get(m) is not None]
        return [f"{m} {shown(m, self._train[m])}" for m in known]

    def _speed(self) -> list[str]:
        fed = {"images_per_second": "examples/s", "features_per_second": "cached features/s"}
        known = {what: self._train.get(key) for key, what in fed.items()}
        return [f"{float(n):,.0f} {what}" for what, n in known.items() if n is not None]

    def _draw(self, step: int) -> None:
        from rich import progress

        if not self._bar:
            words = progress.TextColumn("{task.fields[words]}", markup=False)
            left = progress.TimeRemainingColumn()
            self._bar = progress.Progress(
                progress.BarColumn(24), words, left, console=self._rich,
                auto_refresh=False, transient=True,
            )  # fmt: skip
            self._bar.add_task("", total=self._total() or None, words="", completed=step)
        words = "  ".join([self._at(step), *self._pace(), *self._speed()])
        self._bar.update(0, completed=step, words=words)
        self._bar.start()
        if time.monotonic() - self._drawn > 0.1:  # drawing costs more than a small step
            self._bar.refresh()
            self._drawn = time.monotonic()

    def _on_note(self, step: int, data: Mapping[str, Any]) -> None:
        self._once(step, ("note", str(data["text"])), "")

    def _on_warning(self, step: int, data: Mapping[str, Any]) -> None:
        self._once(step, ("warning", str(data["text"])), "yellow")

    def _once(self, step: int, row: tuple[str, str], style: str) -> None:
        """What is said before the first step is about what variants share, too."""
        if step == 0 and self._start.get("variant"):
            if row in self._noted:
                return
            self._noted.add(row)
        self._rows([row], style)

    def _on_rank(self, step: int, data: Mapping[str, Any]) -> None:
        self._rows([("in short", str(data["text"])), ("written to", str(data["out"]))])

    def _on_finish(self, step: int, data: Mapping[str, Any]) -> None:
        self.close()
        if self._passed:  # a run that stopped early
            self._say(self._passed)
        result, table = data["result"], results(data["result"])
        self._say()
        if len(table) > 1:
            self._table(table)
            self._say()
        self._rows(kept(result))
        if result.get("seconds") is not None:
            part, parts = result.get("compile_seconds"), spent(result)
            of = f", {duration(float(part))} of it compiling" if part and not parts else ""
            self._rows([("took", duration(float(result["seconds"])) + of), *parts])
        if not self._start.get("variant"):
            self._farewell(self._start, data)

    def _on_study(self, step: int, data: Mapping[str, Any]) -> None:
        self.close()
        self._told, self._noted = [], set()
        self._say()
        self._table(comparison(data))
        self._say()
        self._rows([("in short", str(data["text"]))], "bold")
        self._farewell(data, data)

    def _on_sweep(self, step: int, data: Mapping[str, Any]) -> None:
        self.close()
        self._say()
        self._table(points(data))
        self._say()
        self._rows([("in short", sweep_outcome(data))], "bold")
        self._farewell(data, data)

    def _on_audit(self, step: int, data: Mapping[str, Any]) -> None:
        self.close()
        for setting in data["settings"]:
            self._say()
            if setting["labels"] is not None:
                self._say((f"  labels of each class: {setting['labels']}", "bold"))
            self._table(arms(setting))
        self._say()
        self._rows([("in short", str(data["text"]))], "bold")
        self._rows([("advice", str(text)) for text in data["advice"]])
        self._farewell(data, data)

    def _farewell(self, where: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self._rows([("next", str(n)) for n in data.get("next") or ()])
        self._rows([("written to", str(where["out"]))])


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
