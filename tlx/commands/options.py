"""Options that verbs of several files share.

Imports nothing, so that `tlx --help` costs nothing.
"""

from __future__ import annotations

import argparse


def trusting(made: argparse.ArgumentParser) -> None:
    """For a verb that may open a folder; see `tlx.run_file.folder_code`."""
    made.add_argument(
        "--trust-code", action="store_true",
        help="run files of Python that a folder names, even if somebody else has written it",
    )  # fmt: skip
