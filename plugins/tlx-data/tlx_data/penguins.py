"""The penguins of the Palmer archipelago: 344 rows of words and numbers, some of them missing.

Horst, Hill and Gorman 2020, "palmerpenguins", in place of Fisher's irises. The package of that name
brings them as a CSV; nothing of it is run.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tlx.errors import DataError
from tlx_data.table import Table


def penguins(label: str = "species") -> Table:
    """The table, of which the column `label` is to be predicted. Raises DataError where the package
    is not installed."""
    package = find_spec("palmerpenguins")
    if package is None or package.origin is None:
        raise DataError("The penguins come with a package: pip install palmerpenguins.")
    path = Path(package.origin).parent / "data/penguins.csv"
    return Table(str(path), label=label)
