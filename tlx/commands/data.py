"""The verb around data: what is wrong with them, before anything is trained.

As in `tlx.cli`, it imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `data` to the command line."""
    group = verb("data", data)
    below = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made = verb("check", check, below)
    made.add_argument("source", metavar="SOURCE", help="a folder, an .npz file or a reference")
    made.add_argument("--backbone", metavar="NAME", help="whose expectations to hold them against")
    made.add_argument("--weights", metavar="W", help="the same of weights, for that backbone")
    made.add_argument("--sheet", metavar="FILE.png", help="draw pictures of every class")
    made.add_argument("--limit", type=int, metavar="N", help="look at so many pictures only")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="data.x=y",
        help="options of the data, as in a run file: data.layout=classes",
    )  # fmt: skip


def data(args: argparse.Namespace) -> None:
    """Look into data."""


def check(args: argparse.Namespace) -> None:
    """Read every picture and say what is wrong: unreadable, in two splits, in two classes."""
    from tlx import config, registry
    from tlx.data import data_check, splits
    from tlx.errors import DataError
    from tlx.reporting.wording import aligned, as_json
    from tlx.run_file import finetune

    written = finetune.table(args.source, backbone=args.backbone, weights=args.weights)
    table = config.parse(config.apply_sets(written, args.set))
    source = registry.build("datasets", table.data.name, table.data.options)
    cut, classes = splits.cut(source, seed=0), source.info.classes
    canvas, inputs = _expected(table, source.info) if args.backbone else (None, None)
    parts = cut.parts
    found = data_check.check(parts, classes, canvas=canvas, inputs=inputs, limit=args.limit)
    if args.json:
        print(as_json({**found._asdict(), "findings": [f._asdict() for f in found.findings]}))
    else:
        every = tuple(found.counts)
        rows: list[tuple[str, ...]] = [("", *every)]
        rows += [(name, *(f"{found.counts[split][name]:,}" for split in every)) for name in classes]
        rows.append(("all", *(f"{len(part):,}" for part in parts.values())))
        print(aligned(rows), *cut.notes, "", sep="\n")
        for finding in found.findings:
            print(f"{finding.level:8} {finding.text}")
            for file in finding.files:
                print(f"{'':10}{file}")
        if not found.findings:
            print(f"Nothing is wrong with the {found.looked:,} pictures that were looked at.")
    if args.sheet:
        from tlx.data.picture_sheet import sheet

        sheet(cut.train, classes).save(args.sheet)
        print(f"sheet    {args.sheet}")
    if wrong := len(found.errors()):
        what = "1 error makes" if wrong == 1 else f"{wrong} errors make"
        raise DataError(f"{what} a result on these data wrong; see above.")


def _expected(table: Any, info: Any) -> tuple[tuple[int, int], Any]:
    """The size and the preprocessing of the network."""
    from tlx import registry
    from tlx.data.preprocessing import as_trained, canvas
    from tlx.weights import sources

    backbone = registry.build("backbones", table.backbone.name, table.backbone.options)
    file = sources.open_weights(table.weights).input if table.weights else None
    inputs = as_trained(file, backbone.inputs)
    return canvas(info, inputs), inputs
