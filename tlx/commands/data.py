"""The verb around data: what is wrong with them, before anything is trained.

As in `tlx.cli`, it imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from tlx.commands.options import add_json


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `data` to the command line."""
    group = verb("data", data)
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = verb("check", check, below)
    made.add_argument("source", metavar="SOURCE", help="a folder, an .npz file or a reference")
    made.add_argument("--head", metavar="NAME", help="what labels are for; as they look if absent")
    made.add_argument(
        "--backbone", metavar="NAME", help="whose expectations to hold them against; none if absent"
    )
    made.add_argument(
        "--weights", metavar="W", help="the same of weights, for that backbone; its own if absent"
    )
    made.add_argument(
        "--sheet", metavar="FILE.png", help="draw examples of every class; not drawn if absent"
    )
    made.add_argument(
        "--limit", type=int, metavar="N", help="look at so many examples only; all if absent"
    )
    add_json(made)
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="data.x=y",
        help="options of the data, as in a run file: data.layout=classes; as they are if absent",
    )  # fmt: skip


def data(args: argparse.Namespace) -> None:
    """Look into data."""


def check(args: argparse.Namespace) -> None:
    """Read every example and say what is wrong: unreadable, in two splits, in two classes."""
    from tlx import config
    from tlx.data import data_check, targets
    from tlx.data.shown import noun_of
    from tlx.errors import DataError
    from tlx.planning import splitting
    from tlx.reporting.wording import aligned, as_json
    from tlx.run_file import finetune

    written = finetune.table(args.source, backbone=args.backbone, weights=args.weights)
    written = config.apply_sets(written | ({"head": args.head} if args.head else {}), args.set)
    table = config.parse(written)
    source = targets.open_source(table.data, table.head if "head" in written else None)
    cut, classes = splitting.cut(source, table.data), source.info.classes
    info, parts = source.info, cut.parts
    ports = _expected(table, info, cut.train) if args.backbone else ()
    found = data_check.check(parts, info, ports=ports, limit=args.limit)
    if args.json:
        listed = {"findings": [f._asdict() for f in found.findings], "notes": cut.notes}
        print(as_json(found._asdict() | listed))
    else:
        every = tuple(found.counts)
        rows: list[tuple[str, ...]] = [("", *every)]
        rows += [
            (name, *(f"{found.counts[split][name]:,}" for split in every))
            for name in classes
            if all(name in found.counts[split] for split in every)
        ]
        rows += _target_rows(found.targets, every)
        rows.append(("all", *(f"{len(part):,}" for part in parts.values())))
        print(aligned(rows), *cut.notes, "", sep="\n")
        for finding in found.findings:
            print(f"{finding.level:8} {finding.text}")
            for file in finding.files:
                print(f"{'':10}{file}")
        if not found.findings:
            print(
                f"Nothing is wrong with the {found.looked:,} {noun_of(info)}s that were looked at."
            )
    if args.sheet:
        _draw_sheet(cut.train, info, args.sheet)
        print(f"sheet    {args.sheet}")
    if wrong := len(found.errors()):
        what = "1 error makes" if wrong == 1 else f"{wrong} errors make"
        raise DataError(f"{what} a result on these data wrong; see above.")


def _target_rows(targets: Any, splits: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Mean, spread and range of each target by split."""
    rows = []
    for name, of in targets.items():
        for what in ("mean", "std", "least", "most"):
            cells = (f"{getattr(of[s], what):,.6g}" if s in of else "-" for s in splits)
            rows.append((f"{name} {what}", *cells))
    return rows


def _draw_sheet(part: Any, info: Any, file: str) -> None:
    """Values of every class, of the first field that can be drawn."""
    from tlx.contracts.field import DrawsSheet
    from tlx.data.class_examples import spread_by_class
    from tlx.errors import ConfigError, TlxError

    drawn = [name for name in info.inputs if isinstance(info.fields[name], DrawsSheet)]
    if not drawn:
        raise ConfigError(f"--sheet: nothing of {info.name!r} can be drawn on one picture.")
    rows: dict[str, list[Any]] = {}
    for label, places in spread_by_class(part, info.classes):
        for place in places:
            try:
                rows.setdefault(label, []).append(part[place][drawn[0]])
            except (TlxError, OSError, ValueError):
                continue
    info.fields[drawn[0]].draw_sheet(rows, file)


def _expected(table: Any, info: Any, train: Any) -> Any:
    """The ports of the network, bound to the data."""
    from tlx import registry
    from tlx.data.inputs import bind_inputs, fit_inputs, trained_inputs
    from tlx.weights import sources

    backbone = registry.build("backbones", table.backbone.name, table.backbone.options)
    file = sources.open_weights(table.weights) if table.weights else None
    ports = bind_inputs(trained_inputs(backbone, file), info, table.model.inputs)
    return fit_inputs(ports, info, train)
