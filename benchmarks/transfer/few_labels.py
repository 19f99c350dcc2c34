"""What each method brings with few labels: one table, its methods held against plain fine-tuning.

    python benchmarks/transfer/few_labels.py TABLE.toml [--data FOLDER] [--only TEXT]
    python benchmarks/transfer/few_labels.py TABLE.toml --render

A table is a file in tables/: settings (which source, which target, how many labels) times
methods, each with the same number of trials. The trial of a method is chosen by its mean
validation metric over the first `tuning` seeds; then it runs on all `seeds`, and only these
models see the test split, once. A seed draws the labelled pictures, the head and the order of
batches, the same for every method. `after = "finetune"` starts a method's trials from the trial
that was chosen for that one; `chosen_in` names a setting whose choices another one keeps.

Every finished run is a line in results/few_labels/TABLE.jsonl, so that a table that is stopped goes
on where it was. `--render` writes docs/few_labels/TABLE.md and TABLE.svg from these lines: the mean
over seeds, and the mean difference to the baseline, paired by seed, with its 95 % interval
(Student's t). `--data` is a folder as described in its README; `{data}` and `{work}` in a table
stand for it and for the folder in which pictures are unpacked.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import config as configs
from tlx.assemble import assemble
from tlx.loop import train
from tlx.reporting.describe import device
from tlx.run_file.overrides import expanded, merge
from tlx.run_one import finished
from tlx.sinks import Sinks
from tlx.training.split_metrics import evaluated

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "few_labels"
DOCS = HERE.parents[1] / "docs" / "few_labels"


class Outcome(NamedTuple):
    """A trained model on validation, and the function that opens the test split, which is the
    domain's where there is a domain."""

    val: Mapping[str, float]
    test: Callable[[], Mapping[str, float]]
    seconds: float
    parameters: int


def run(table: Mapping[str, Any]) -> Outcome:
    """Train what a run's table says, and keep nothing of it on disk."""
    started = time.perf_counter()
    experiment = assemble(configs.parse(table))
    with tempfile.TemporaryDirectory() as folder:
        trained = train(experiment, Path(folder), Sinks([]), resume=False)
    variables = experiment.used(finished(experiment, trained.variables).variables)
    last, parts = experiment.phases[-1], experiment.splits

    def test() -> Mapping[str, float]:
        held = experiment.domain.test if experiment.domain else parts.test
        return evaluated(experiment, last, variables, held).metrics

    seconds = time.perf_counter() - started
    return Outcome(trained.val, test, seconds, experiment.trainable)


class Lines:
    """Finished runs, one a line, by what they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {self.key(line): line for line in map(json.loads, lines)}

    @staticmethod
    def key(line: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            line["setting"],
            line["method"],
            json.dumps(line["trial"]),
            line["seed"],
            line["on"],
        )

    def add(self, **line: Any) -> dict[str, Any]:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.known[self.key(line)] = line
        return line

    def find(self, **line: Any) -> dict[str, Any] | None:
        return self.known.get(self.key(line))


class Table:
    """A table's file, and what has been run of it."""

    def __init__(self, path: Path, data: Path, work: Path) -> None:
        text = path.read_text().replace("{data}", str(data)).replace("{work}", str(work))
        self.spec = tomllib.loads(text.replace("{here}", str(HERE)))
        self.name, self.lines = path.stem, Lines(RESULTS / f"{path.stem}.jsonl")
        self.seeds, self.tuning = self.spec["seeds"], self.spec["tuning"]
        self.kept: dict[tuple[Any, ...], Outcome] = {}
        self.hidden = {str(data): "{data}", str(work): "{work}", str(HERE): "{here}"}

    def methods(self, setting: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for method in self.spec["method"]:
            if method["name"] in setting.get("methods", (method["name"],)):
                yield method

    def table_of(self, setting: Any, method: Any, trial: Any, seed: int) -> dict[str, Any]:
        """The run file of one run, which is also what `tlx run` would take."""
        whole = expanded({"name": self.name, "sink": [], "log_every": 10_000, **self.spec["run"]})
        changes = [setting.get("run", {})]
        if "after" in method:
            before = next(m for m in self.spec["method"] if m["name"] == method["after"])
            changes += [before.get("run", {}), self.chosen(setting, before)]
        changes += [method.get("run", {}), trial, {"seed": seed, "data": {"split_seed": seed}}]
        for change in changes:
            whole = merge(whole, expanded(change))
        return whole

    def chosen(self, setting: Any, method: Any) -> Mapping[str, Any]:
        """The trial with the best mean validation metric; the lower loss decides between equals."""
        if len(method["trials"]) == 1:
            return method["trials"][0]
        where = setting.get("chosen_in", setting["name"])
        setting = next(s for s in self.spec["setting"] if s["name"] == where)

        def quality(trial: Any) -> tuple[float, float]:
            found = [self.validated(setting, method, trial, seed) for seed in range(self.tuning)]
            mean = {k: float(np.mean([f["val"][k] for f in found])) for k in found[0]["val"]}
            return mean[self.spec["metric"]], -mean["loss"]

        return max(method["trials"], key=quality)

    def validated(self, setting: Any, method: Any, trial: Any, seed: int) -> dict[str, Any]:
        about = self.about(setting, method, trial, seed, "val")
        found = self.lines.find(**about)
        if found is None:
            outcome = run(self.table_of(setting, method, trial, seed))
            self.kept[Lines.key({**about, "on": "test"})] = outcome
            found = self.lines.add(
                **about, val=outcome.val, seconds=outcome.seconds, date=now(), device=device()
            )
            said(found, self.spec["metric"])
        return found

    def tested(self, setting: Any, method: Any, trial: Any, seed: int) -> dict[str, Any]:
        about = self.about(setting, method, trial, seed, "test")
        found = self.lines.find(**about)
        if found is None:
            kept = self.kept.get(Lines.key(about))
            outcome = kept or run(self.table_of(setting, method, trial, seed))
            found = self.lines.add(
                **about, val=outcome.val, test=outcome.test(), seconds=outcome.seconds,
                parameters=outcome.parameters, date=now(), device=device(),
            )  # fmt: skip
            said(found, self.spec["metric"])
        return found

    def about(self, setting: Any, method: Any, trial: Any, seed: int, on: str) -> dict[str, Any]:
        text = json.dumps(trial)
        for path, name in self.hidden.items():
            text = text.replace(path, name)
        return {
            "setting": setting["name"], "method": method["name"], "trial": json.loads(text),
            "seed": seed, "on": on,
        }  # fmt: skip

    def fill(self, only: str) -> None:
        every = [(s, m) for s in self.spec["setting"] for m in self.methods(s)]
        every = [(s, m) for s, m in every if only in s["name"] or only in m["name"]]
        started = time.perf_counter()
        for number, (setting, method) in enumerate(every, 1):
            trial = self.chosen(setting, method)
            for seed in range(setting.get("seeds", self.seeds)):
                self.tested(setting, method, trial, seed)
            self.kept.clear()
            minutes = (time.perf_counter() - started) / 60
            print(f"--- {number} of {len(every)} done, {minutes:.1f} min", flush=True)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def said(line: Mapping[str, Any], metric: str) -> None:
    reached = line.get("test", line["val"])[metric]
    print(
        f"{line['setting']} · {line['method']} · {line['trial']} · seed {line['seed']} · "
        f"{line['on']} {100 * reached:.1f} · {line['seconds']:.1f} s",
        flush=True,
    )


def tested_on(arrays: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A collection with the first pictures of its test split alone; they are in random order."""
    few = {name: arrays[name][:count] for name in ("x_test", "y_test")}
    return {**arrays, **few}


def cifar10(data: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (N,32,32,3) uint8, labels (N,) and the names of the classes."""
    with np.load(data / f"cifar10_{split}.npz") as file:
        planes = file["residual"].cumsum(2, dtype=np.uint8).cumsum(3, dtype=np.uint8)
        red, green, blue = planes[1] + planes[0], planes[0], planes[2] + planes[0]
        return np.stack([red, green, blue], -1), file["labels"], file["class_names"]


def unpacked(data: Path, work: Path) -> None:
    """Pictures as plain files, once."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "mnist_test2000.npz").exists():
        with np.load(data / "digits_mnist_usps.npz") as file:
            for name in ("mnist", "usps"):
                arrays = {
                    f"{short}_{split}": file[f"{name}_{split}_{long}"]
                    for short, long in (("x", "images"), ("y", "labels"))
                    for split in ("train", "test")
                }
                np.savez(work / f"{name}.npz", **arrays)
                if name == "mnist":
                    np.savez(work / "mnist_test2000.npz", **tested_on(arrays, 2000))
    if not (work / "cifar10_test1000.npz").exists():
        arrays = {}
        for split in ("train", "test"):
            found = cifar10(data, split)
            arrays[f"x_{split}"], arrays[f"y_{split}"], arrays["class_names"] = found
        np.savez(work / "cifar10.npz", **arrays)
        for count in (2000, 1000):
            np.savez(work / f"cifar10_test{count}.npz", **tested_on(arrays, count))
    if not (work / "hymenoptera").exists():
        with zipfile.ZipFile(data / "hymenoptera_256.zip") as file:
            file.extractall(work / "hymenoptera")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--only", default="", help="settings or methods whose name holds this")
    parser.add_argument("--render", action="store_true", help="write the page from what there is")
    given = parser.parse_args()
    table = Table(given.table, given.data.resolve(), given.work.resolve())
    if not given.render:
        jax.config.update("jax_compilation_cache_dir", str(given.work / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        unpacked(given.data, given.work)
        table.fill(given.only)
    from few_labels_page import render

    render(table.name, table.spec, list(table.lines.known.values()), DOCS)


if __name__ == "__main__":
    main()
