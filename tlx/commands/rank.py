"""The verb that chooses a source before anything is trained.

As in `tlx.cli`, it imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from tlx.commands.options import add_json, trusting


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `rank` to the command line."""
    made = verb("rank", rank)
    made.add_argument("target", metavar="TARGET", help="labelled pictures: a folder, a file, a set")
    made.add_argument(
        "--sources", nargs="+", metavar="S",
        help="a backbone with packaged weights, BACKBONE=WEIGHTS, BACKBONE=none (random), weights, "
        "a run's folder; every packaged source if absent",
    )  # fmt: skip
    made.add_argument(
        "--score", action="append", metavar="NAME",
        help="again for another; the first one decides; all that are installed if absent",
    )  # fmt: skip
    made.add_argument(
        "--images", type=int, default=1000, metavar="N", help="looked at, at most; 1000 if absent"
    )
    made.add_argument(
        "--halves", type=int, default=50, metavar="N", help="drawn for intervals; 50 if absent"
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws; 0 if absent")
    made.add_argument(
        "--accuracy", nargs="+", action="extend", default=[], metavar="S=A",
        help="a source's accuracy on its own test data, 0 to 1, where its run does not say it; "
        "what runs say if absent",
    )  # fmt: skip
    made.add_argument(
        "--compare", nargs="+", default=[], metavar="DATA",
        help="other labelled data: how alike their task is to the target's; none if absent",
    )  # fmt: skip
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="data.x=y",
        help="options of the target's data, such as data.layout=classes; none if absent",
    )  # fmt: skip
    made.add_argument(
        "--out", metavar="DIR", help="where to write rank.json and report.html; nowhere if absent"
    )
    trusting(made)
    add_json(made)


def rank(args: argparse.Namespace) -> None:
    """Say which source suits a target, by scores, without training any."""
    accuracies = dict(map(_accuracy, args.accuracy))
    _known(args.score)
    from tlx.reporting.wording import aligned, as_json
    from tlx.selection import rank_table as tables
    from tlx.selection.ranking import rank

    found = rank(
        args.target, args.sources, scores=args.score, images=args.images, resamples=args.halves,
        seed=args.seed, accuracies=accuracies, compare=args.compare, trust_code=args.trust_code,
        sets=args.set,
    )  # fmt: skip
    if args.out:
        _write(found, Path(args.out))
    if args.json:
        return print(as_json(found))
    print(aligned(tables.sources(found)), "", sep="\n")
    print(aligned(tables.scores(found)), "", tables.caption(found), sep="\n")
    print(*tables.unavailable(found), "", sep="\n")
    for similar in found["similarity"]:
        print(aligned(tables.matrix(similar)), similar["text"], "", sep="\n")
    print(found["text"], *found["notes"], sep="\n")
    if args.out:
        print(f"written to {args.out}")


def _known(scores: list[str] | None) -> None:
    """A misspelt score is answered before jax is imported."""
    from tlx import registry

    for name in scores or ():
        registry.choose("scores", name)


def _accuracy(text: str) -> tuple[str, float]:
    from tlx.errors import ConfigError

    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        pass
    raise ConfigError(f"--accuracy {text}: write SOURCE=SHARE, such as resnet20=0.92.")


def _write(found: dict, out: Path) -> None:
    """`rank.json`, and the page that a report makes of the event."""
    from tlx import registry
    from tlx.errors import TlxError
    from tlx.run_folder.folder import write_json
    from tlx.sinks import Sinks
    from tlx.types import Event

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "rank.json", found)
    try:
        sinks = Sinks([registry.build("sinks", "html")])
    except TlxError:
        return  # no report is installed
    sinks.emit(Event("rank", 0, {"out": str(out), **found}))
    sinks.close()
