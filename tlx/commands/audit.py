"""The verb that asks whether a transfer helped.

As in `tlx.cli`, it imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tlx.commands.options import add_json, add_run_file, add_training, trusting


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `audit` to the command line."""
    made = verb("audit", audit)
    add_run_file(made)
    made.add_argument(
        "--seeds", type=int, default=5, metavar="N", help="repetitions of every arm; 5 if absent"
    )
    made.add_argument(
        "--rates",
        type=int,
        default=3,
        metavar="N",
        help="learning rates that every arm tries; 3 if absent",
    )
    made.add_argument(
        "--labels",
        metavar="10,50,all",
        help="do it for each of these counts of labels a class; all labels if absent",
    )
    made.add_argument(
        "--resplit", action="store_true", help="every seed draws its own labelled examples"
    )
    add_training(made)
    trusting(made)
    add_json(made)


def audit(args: argparse.Namespace) -> None:
    """Say whether the transfer helps: the same run from random weights and in each usual way."""
    from tlx import config
    from tlx.studies import audit_arms

    labels = audit_arms.labels(args.labels) if args.labels else ()
    read = config.read(args.run_file, args.set, trust_code=args.trust_code)
    audit_arms.refuse(read)
    config.check(read)  # before jax is imported
    from tlx.reporting.wording import as_json
    from tlx.studies import auditing

    found = auditing.audit(
        args.run_file, seeds=args.seeds, rates=args.rates, labels=labels, resplit=args.resplit,
        sets=args.set, out=args.out, resume=args.resume, overwrite=args.overwrite,
        quiet=args.json, trust_code=args.trust_code,
    )  # fmt: skip
    if args.json:
        print(as_json(found))
