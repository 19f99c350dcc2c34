"""Options that verbs of several files share.

Imports nothing, so that `tlx --help` costs nothing. Every help says what is done if it is absent.
"""

from __future__ import annotations

import argparse
from typing import Any


def add_run_file(made: argparse.ArgumentParser) -> None:
    """For a verb that reads a run file."""
    made.add_argument("run_file", metavar="RUN.toml", help="a run file, or the folder of a run")


def trusting(made: argparse.ArgumentParser) -> None:
    """For a verb that may open a folder; see `tlx.run_file.folder_code`."""
    made.add_argument(
        "--trust-code", action="store_true",
        help="run files of Python that a folder names, even if somebody else has written it",
    )  # fmt: skip


def add_sets(made: argparse.ArgumentParser) -> None:
    """For a verb whose run file can be changed."""
    made.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="a.b=value",
        help="change the run file: optimizer.learning_rate=0.01, divergence.0.weight=1; it is "
        "taken as it is if absent",
    )  # fmt: skip


def add_training(made: argparse.ArgumentParser) -> None:
    """For a verb that trains into a folder."""
    add_sets(made)
    made.add_argument("--out", metavar="DIR", help="where to write; runs/<name> if absent")
    again = made.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    again.add_argument("--overwrite", action="store_true", help="replace the run in DIR")


def add_profile(made: argparse.ArgumentParser) -> None:
    """For a verb that trains one run."""
    made.add_argument(
        "--profile", action="store_true",
        help="say where the time went and trace a few steps; waits for every step",
    )  # fmt: skip


def add_json(made: Any) -> None:
    """For a verb with something to print; `made` may be a group of its options."""
    made.add_argument("--json", action="store_true", help="print JSON instead of text")
