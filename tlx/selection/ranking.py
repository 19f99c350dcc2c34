"""Which source for this target: candidates beside each other by scores, without training any.

What a source says of the target's training pictures is computed once and shared by all scores.
Intervals and the differences between sources come from the same random halves of the pictures
(`tlx.numerics.half_samples`), so that a difference is judged on the same pictures for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from tlx import config as configs
from tlx import registry
from tlx.contracts.calls import calling
from tlx.contracts.scoring import OF_EXAMPLES, asked
from tlx.data import splits
from tlx.errors import ConfigError, DataError, ScoreError, did_you_mean, listed
from tlx.numerics.half_samples import half_width, halves
from tlx.numerics.shares import within
from tlx.protocols import DataSource, Score
from tlx.run_file import finetune
from tlx.selection.candidates import Candidate, candidate, named
from tlx.selection.source_words import SourceWords, Target
from tlx.selection.task_similarity import between_data, between_sources
from tlx.selection.trained_on import trained_on

IMAGES, RESAMPLES = 1000, 50
FEW, COSTLY = 20, 3e6
"""Halves that are looked at, where pictures × features × the smaller of both is more than that."""
DECISIVE = "probe"
"""The score that sources are ordered by, where nobody says another."""


class Scored(NamedTuple):
    """The `value` of a score for the source of this number, its values on `halves` (none where it
    has nothing to do with pictures), the `seconds` that it took, and whether it is a `share` of the
    pictures."""

    source: int
    value: float
    halves: np.ndarray
    seconds: float
    share: bool = False


def rank(
    target: str | DataSource,
    sources: Sequence[str | Candidate] | None = None,
    *,
    scores: Sequence[str] | Mapping[str, Score] | None = None,
    images: int = IMAGES,
    resamples: int = RESAMPLES,
    seed: int = 0,
    accuracies: Mapping[str, float] | None = None,
    compare: Sequence[str] = (),
    trust_code: bool = False,
    sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Rank sources for a labelled target, higher scores first; plain data, which
    `tlx.selection.rank_table` puts in words.

    `target` is what `tlx finetune` accepts as data, or a DataSource: `images` of its training split
    at most, every class in proportion. `sources` are named as `tlx.selection.candidates` says,
    every packaged one if None; `scores` are references or ready ones by name, every installed one
    if None, and the first is the one that sources are ordered by (`probe` where none is named).
    `accuracies`: of sources on their own test data, where no run says it. `compare` names other
    data that the target is compared with, as the first source sees them. `trust_code` as for
    `tlx.load`; `sets` are options of a target that is named, such as `data.layout=classes`.

    Raises ConfigError for what is no source or score, DataError for labels that are no classes."""
    if images < 2 or resamples < 2:
        raise ConfigError(f"images = {images} and resamples = {resamples} are 2 or more each.")
    asking = _scores(scores)
    on = pictures_of(target, images, sets)
    others = [pictures_of(data, images) for data in compare]
    found = _candidates(sources, accuracies or {}, trust_code)
    words = [SourceWords(one, on, seed) for one in found]
    samples = halves(on.labels, resamples, seed)
    tables = [_table(name, score, words, samples) for name, score in asking.items()]
    first = next(iter(asking)) if scores is not None or DECISIVE not in asking else DECISIVE
    result = {
        "target": on.info.name,
        "pictures": len(on.part),
        "classes": len(on.info.classes),
        "resamples": resamples,
        "by": first,
        "sources": [_about(one) for one in words],
        "scores": tables,
    }
    result["text"] = _verdict(result)
    typed = [one for one in sources or () if isinstance(one, str)]
    result["notes"] = trained_on(target, typed) if isinstance(target, str) else []
    similar = between_sources(words) if len(words) > 1 else []
    if others:
        similar += between_data([on, *others], [on.info.name, *compare], found[0], seed)
    return {**result, "similarity": similar}


def similarity(
    data: Sequence[str | DataSource],
    source: str | Candidate | None = None,
    *,
    images: int = IMAGES,
    seed: int = 0,
    trust_code: bool = False,
) -> list[dict[str, Any]]:
    """How alike the tasks of labelled data sets are as one source sees them, the first packaged one
    if None: for each measure of `tlx.selection.task_similarity` `measure`, `names`, the `matrix`
    and what it says, `text`. Raises as `rank` does."""
    targets = [pictures_of(one, images) for one in data]
    names = [one if isinstance(one, str) else one.info.name for one in data]
    probe = _candidates(None if source is None else [source], {}, trust_code)[0]
    return between_data(targets, names, probe, seed)


def pictures_of(target: str | DataSource, images: int, sets: Sequence[str] = ()) -> Target:
    """Training pictures of what a person names as data, `images` at most, every class in
    proportion; test and validation pictures are left alone."""
    source = target
    if isinstance(source, str):
        data = configs.parse(configs.apply_sets(finetune.table(source), sets)).data
        source = registry.build("datasets", data.name, data.options, {"label_kind": "class"})
    part, classes = splits.cut(source, seed=0).train, source.info.classes
    if not splits.are_classes(part.labels, classes):
        raise DataError(
            f"Scores want one class for each picture; the labels of {source.info.name!r} are "
            f"numbers or several classes at once."
        )
    if len(part) > images:
        key = f"{source.info.fingerprint}/rank"
        part = part.at(splits.stratified(part.labels, images, key))
    return Target(source.info, part)


def _scores(scores: Sequence[str] | Mapping[str, Score] | None) -> dict[str, Score]:
    if isinstance(scores, Mapping):
        found = dict(scores)
    else:
        names = [p.name for p in registry.find("scores")] if scores is None else list(scores)
        found = {name: registry.build("scores", name) for name in names}
    if not found:
        raise ConfigError("There is no score to rank by. Install tlx-select, or name a file's.")
    for name, score in found.items():
        asked(score, name)
    return found


def _candidates(
    sources: Sequence[str | Candidate] | None,
    accuracies: Mapping[str, float],
    trust_code: bool,
) -> list[Candidate]:
    """The sources, with the accuracies that were given, by name or as typed."""
    texts = None if sources is None else [one for one in sources if isinstance(one, str)]
    names = named(texts)
    ready = [one for one in sources or () if not isinstance(one, str)]
    known = {text: name for name, text in names.items()}
    known |= {name: name for name in [*names, *(one.name for one in ready)]}
    if not known:
        raise ConfigError("There is no source to rank.")
    given: dict[str, float] = {}
    for name, value in accuracies.items():
        if name not in known:
            raise ConfigError(
                f"The accuracy of {name!r} is given, which is no source here."
                f"{did_you_mean(name, known)} Sources: {listed(known)}."
            )
        if not 0 <= value <= 1:
            raise ConfigError(f"The accuracy of {name!r} is a share from 0 to 1, not {value:g}.")
        given[known[name]] = value
    typed = [candidate(text, name, trust_code=trust_code) for name, text in names.items()]
    found = [*typed, *ready]
    return [one._replace(accuracy=given.get(one.name, one.accuracy)) for one in found]


def _about(words: SourceWords) -> dict[str, Any]:
    one, seen = words.candidate, vars(words).get("seen")  # there if any score asked for it
    return {
        "source": one.name,
        "parameters": one.parameters,
        "accuracy": one.accuracy,
        "classes": None if seen is None or seen.outputs is None else seen.outputs.shape[1],
        "features": None if seen is None else seen.features.shape[1],
        "seconds": None if seen is None else seen.seconds,
    }


def _table(
    name: str, score: Score, words: Sequence[SourceWords], samples: Sequence[np.ndarray]
) -> dict[str, Any]:
    """One score over all sources: `rows` best first, and where it is `unavailable` and why."""
    asks, known, missing = asked(score, name), [], []
    for number, one in enumerate(words):
        try:
            if asks & OF_EXAMPLES - {"labels"}:
                one.seen  # noqa: B018 - its time is the source's, not the score's
            known.append(_scored(number, score, {w: one for w in asks}, samples))
        except ScoreError as error:
            missing.append({"source": one.candidate.name, "why": str(error)})
    known.sort(key=lambda one: -one.value)
    names = [one.candidate.name for one in words]
    rows = [
        {
            "source": names[one.source],
            "value": one.value,
            **_ends(one),
            "rank": 1 + sum(other.value > one.value for other in known),
            **_behind(known[0], one),
            "seconds": one.seconds,
        }
        for one in known
    ]
    return {"score": name, "rows": rows, "unavailable": missing}


def _scored(
    number: int,
    score: Score,
    of: Mapping[str, SourceWords],
    samples: Sequence[np.ndarray],
) -> Scored:
    begun = perf_counter()
    words = {word: source[word] for word, source in of.items()}
    with calling(f"The score {type(score).__name__}", score, words):
        terms = np.asarray(score(**words), np.float64)
    if not np.isfinite(terms).all():
        raise ScoreError("It gave a number that is not finite.")
    if terms.ndim:
        on_halves = np.asarray([terms[half].mean() for half in samples])
    elif words.keys() & OF_EXAMPLES:
        on_halves = np.asarray([_on(half, score, words) for half in _few(samples, words)])
    else:
        on_halves = np.empty(0)
    share = bool(terms.ndim and np.isin(terms, (0, 1)).all())
    return Scored(number, float(terms.mean()), on_halves, perf_counter() - begun, share)


def _on(half: np.ndarray, score: Score, words: Mapping[str, Any]) -> float:
    """The score on some of the pictures; NaN where it has no answer for so few."""
    try:
        return float(score(**{w: v[half] if w in OF_EXAMPLES else v for w, v in words.items()}))
    except ScoreError:
        return np.nan


def _few(samples: Sequence[np.ndarray], words: Mapping[str, Any]) -> Sequence[np.ndarray]:
    pictures, width = words["features"].shape if "features" in words else (0, 0)
    return samples[:FEW] if pictures * width * min(pictures, width) > COSTLY else samples


def _ends(one: Scored) -> dict[str, float | int | None]:
    half, low, high = half_width(one.halves), None, None
    if half is not None:
        low, high = one.value - half, one.value + half
        low, high = within(low, high) if one.share else (low, high)
    return {"low": low, "high": high, "halves": len(one.halves)}


def _behind(leader: Scored, one: Scored) -> dict[str, Any]:
    """How far behind the leader, half the width of that difference's interval, and whether that
    tells the two apart; None where nothing can be said."""
    if one is leader:
        return {"behind": 0.0, "behind_half": None, "apart": None}
    count = min(len(leader.halves), len(one.halves))
    half = half_width(leader.halves[:count] - one.halves[:count]) if count else None
    gap = leader.value - one.value
    return {"behind": gap, "behind_half": half, "apart": None if half is None else gap > half}


def _verdict(result: Mapping[str, Any]) -> str:
    """What came out, in a sentence or two."""
    by, tables = result["by"], result["scores"]
    rows = next(table["rows"] for table in tables if table["score"] == by)
    if not rows:
        return f"{by} is not available for any source, so nothing is ranked by it."
    if len(rows) == 1:
        return (
            f"There is one source that has {by}, so nothing is ranked. Name others; BACKBONE=none "
            f"is that network from random numbers."
        )
    first, second = rows[0], rows[1]
    even = [row["source"] for row in rows if row is first or row["apart"] is False]
    half = second["behind_half"]
    gap = f"{second['behind']:.3g}" + ("" if half is None else f" ± {half:.3g}")
    if len(even) == len(rows) > 2:
        said = f"By {by}, none of these {len(rows)} sources can be told from the first, "
        said += f"{first['source']}; {second['source']} differs by {gap}."
    elif len(even) > 1:
        who = " and ".join(even) if len(even) == 2 else f"{listed(even[:-1])} and {even[-1]}"
        said = f"By {by}, {who} cannot be told apart; the first two differ by {gap}."
    elif second["rank"] == 1:
        said = f"By {by}, {first['source']} and {second['source']} are even."
    else:
        said = f"By {by}, {first['source']} is ahead of {second['source']} by {gap}."
    heads = [table["rows"][0]["source"] for table in tables if len(table["rows"]) > 1]
    count = sum(head == first["source"] for head in heads)
    return f"{said} Of {len(heads)} scores, {count} put {first['source']} first."
