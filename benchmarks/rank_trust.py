"""Do scores that are known before training say which source ends up best?

    python benchmarks/rank_trust.py [--data FOLDER] [--work FOLDER]

Scores every source for every target of `rank_pairs.py` on the pictures that the pairs were trained
on, and compares the order with the accuracies that `rank_reached.py` reached, by the weighted
Kendall tau of Vigna (2015), as the papers of these scores do: 1 is the right order, 0 none; a
mistake among the best counts most. The interval of a mean over targets is that of a bootstrap over
targets and, within each, over sources. Baselines stand in the same table. Writes
results/rank_trust/scores.jsonl and results/rank_trust.json, and prints the table of
docs/which_source.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from jax import Array
from rank_pairs import TARGETS, TRAINED, places, sources
from rank_reached import REACHED, table_of
from reported import reported
from scipy.stats import weightedtau
from tlx_image import ImageInput

from tlx import config as configs
from tlx import registry
from tlx.assemble import assemble
from tlx.config import SourceConfig
from tlx.data.splits import Subset
from tlx.model import Model
from tlx.protocols import Backbone, Split
from tlx.selection.candidates import Candidate, candidate
from tlx.selection.ranking import rank
from tlx.types import DataInfo, Features, FeatureSpec, LeafInfo, Mode, Params, State, Variables
from tlx.weights.sources import others

FEWEST = 4
"""Sources, for an order among them to say anything."""
HERE = Path(__file__).resolve().parent
SCORED = REACHED.with_name("scores.jsonl")
ACCURACY = {
    "cifar10-resnet20": 0.9173, "cifar10-resnet32": 0.9263, "cifar10-resnet44": 0.9310,
    "cifar10-resnet56": 0.9339, "imagenet-trunk": 0.6976,
}  # fmt: skip
"""On the source's own test data, as published; sources that were trained here say it themselves.
That of the ImageNet ResNet-18 is the whole network's."""


@final
@dataclass(frozen=True)
class Until:
    """A backbone without what lies behind a feature, where the file does not have it."""

    whole: Backbone
    last: str

    @property
    def inputs(self) -> ImageInput:
        """As the whole one's."""
        return self.whole.inputs

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """Those up to the last."""
        names = [spec.name for spec in self.whole.features]
        return self.whole.features[: names.index(self.last) + 1]

    @property
    def modes(self) -> frozenset[Mode]:
        """As the whole one's."""
        return self.whole.modes

    def leaf(self, path: str) -> LeafInfo:
        """As the whole one's."""
        return self.whole.leaf(path)

    def init(self, rng: Array, x: Array) -> Variables:
        """As the whole one's."""
        return self.whole.init(rng, x)

    def apply(
        self, params: Params, state: State, x: Array, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """The features up to the last; the compiler leaves out what only others need."""
        found, state = self.whole.apply(params, state, x, rng=rng, mode=mode)
        return {spec.name: found[spec.name] for spec in self.features}, state


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """The labelled pictures that a pair was trained and selected on, as a data source."""

    info: DataInfo
    pictures: Subset

    def split(self, name: str) -> Split:
        """`train`: all of them. The test pictures stay closed; a ranking asks for none."""
        return self.pictures


def candidates(data: Path, work: Path) -> list[Candidate]:
    """Every source with its own head where it has one."""
    found = []
    for name, source in sources(data, work).items():
        if source.weights == "none":
            found.append(candidate(f"{source.backbone}={source.weights}", name))
            continue
        config = configs.parse(table_of(name, source, "digits", "probe", 0, work))
        accuracy = ACCURACY.get(name)
        if name in TRAINED:
            said = json.loads((work / "sources" / name / "result.json").read_text())
            accuracy = said.get("test", {}).get("accuracy")
        asked = {name: SourceConfig(backbone=config.backbone, weights=config.weights)}
        loaded = others(asked, _softmax)[name]
        if source.head:
            last = str(source.head["feature"])
            body = Until(loaded.model.backbone, last)
            loaded = loaded._replace(model=Model(body, None, loaded.model.inputs))
        found.append(Candidate(name, loaded, accuracy))
    return found


def _softmax(classes: int) -> Any:
    return registry.build("heads", "softmax", given={"classes": classes})


def pictures(data: Path, work: Path, aim: str) -> Labelled:
    """Those of a target that were trained and selected on."""
    table = table_of("any", sources(data, work)["random"], aim, "probe", 0, work)
    experiment = assemble(configs.parse(table))
    parts, info = experiment.splits, experiment.info
    where = np.concatenate([parts.train.indices, parts.val.indices])
    both = Subset(parts.train.split, where, parts.train.name)
    few = replace(info, splits={"train": len(both)}, fingerprint=f"{info.fingerprint}/few")
    return Labelled(few, both)


def scored(data: Path, work: Path) -> dict[tuple[str, str, str], float]:
    """(score, target, source) -> value, from the file as far as it goes."""
    lines = SCORED.read_text().splitlines() if SCORED.exists() else []
    known = [json.loads(line) for line in lines]
    ready = candidates(data, work) if len({line["target"] for line in known}) < len(TARGETS) else []
    for aim in TARGETS:
        if any(line["target"] == aim for line in known):
            continue
        result = rank(pictures(data, work, aim), ready, images=100_000, resamples=2)
        for table in result["scores"]:
            for row in table["rows"]:
                known.append({
                    "target": aim, "source": row["source"], "score": table["score"],
                    "value": row["value"], "seconds": round(row["seconds"], 3),
                })  # fmt: skip
                with SCORED.open("a") as file:
                    file.write(json.dumps(known[-1]) + "\n")
    return {(x["score"], x["target"], x["source"]): x["value"] for x in known}


def tau(values: np.ndarray, reached: np.ndarray) -> float:
    """The weighted rank correlation, mistakes weighted by the ranks in both orders."""
    return float(weightedtau(values, reached).statistic)


def main() -> None:
    data, work = places((__doc__ or "").splitlines()[0])
    values = scored(data, work)
    reached: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for line in REACHED.read_text().splitlines():
        one = json.loads(line)
        reached[one["way"], one["target"], one["source"]].append(one["accuracy"])
    names = sorted({score for score, _, _ in values})
    result: dict[str, Any] = {}
    for way in ("probe", "finetune"):
        result[way] = {name: _trust(name, way, values, reached) for name in names}
    reported("rank_trust", {"what": "weighted Kendall tau with what was reached", **result})
    print("\n".join(f"| {' | '.join(row)} |" for row in rows(result)))


def rows(result: dict[str, Any]) -> list[list[str]]:
    """The table of docs/which_source.md, best first by the probes."""

    def cell(found: dict[str, Any]) -> str:
        low, high = found["interval"]
        return f"{found['tau']:.2f} ({low:.2f} to {high:.2f})"

    order = sorted(result["probe"], key=lambda name: -result["probe"][name]["tau"])
    return [
        [f"`{name}`", cell(result["probe"][name]), cell(result["finetune"][name]),
         str(result["probe"][name]["sources"])]
        for name in order
    ]  # fmt: skip


def _trust(
    score: str, way: str, values: dict[Any, float], reached: dict[Any, list[float]]
) -> dict[str, Any]:
    """Mean tau over targets, its bootstrap interval, and tau of each target."""
    pairs = {}
    for aim in TARGETS:
        there = [
            name for s, a, name in values
            if s == score and a == aim and (way, aim, name) in reached
        ]  # fmt: skip
        if len(there) >= FEWEST:
            pairs[aim] = (
                np.array([values[score, aim, name] for name in there]),
                np.array([np.mean(reached[way, aim, name]) for name in there]),
            )
    each = {aim: tau(*pair) for aim, pair in pairs.items()}
    if not each:
        return {"tau": None, "why": f"fewer than {FEWEST} sources have it"}
    rng, aims, means = np.random.default_rng(0), list(pairs), []
    for _ in range(1000):
        drawn = []
        for aim in rng.choice(aims, len(aims)):
            a, b = pairs[aim]
            some = rng.integers(0, len(a), len(a))
            if len(np.unique(b[some])) > 1 and len(np.unique(a[some])) > 1:
                drawn.append(tau(a[some], b[some]))
        means.append(np.mean(drawn))
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "tau": round(float(np.mean(list(each.values()))), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "sources": len(next(iter(pairs.values()))[0]),
        "targets": {aim: round(value, 3) for aim, value in each.items()},
    }


if __name__ == "__main__":
    main()
