"""A weight file on disk: that it is there, and that it is the one that was meant.

No format of weights notices a changed bit in its numbers, so a digest can be asked for.
"""

from __future__ import annotations

from pathlib import Path

from tlx.errors import WeightsError, did_you_mean
from tlx.manifest import digest
from tlx.types import LoadReport, Variables


def existing(path: str, ending: str, sha256: str = "") -> Path:
    """The file at `path` (`~` is the home folder).

    Raises WeightsError where there is none, with the nearest name that exists, and where its
    sha256 does not start with the one that was given."""
    file = Path(path).expanduser()
    if file.is_dir():
        inside = sorted(p.name for p in file.iterdir() if p.name.endswith(ending))
        hint = f" It holds {', '.join(inside[:5])}: name one." if inside else ""
        raise WeightsError(f"{file} is a folder, not a {ending} file.{hint}")
    if not file.is_file():
        folder = file.parent
        if not folder.is_dir():
            raise WeightsError(f"There is no file {file}: its folder does not exist.")
        near = did_you_mean(file.name, (p.name for p in folder.iterdir()))
        raise WeightsError(f"There is no file {file}.{near}")
    if sha256:
        found = digest(file)
        if not found.startswith(sha256.lower()):
            raise WeightsError(
                f"{file} is not the file that was meant: its sha256 is {found}, not {sha256}. "
                f"Fetch it again, or correct `sha256`."
            )
    return file


def recorded(file: Path, matched: tuple[Variables, LoadReport]) -> tuple[Variables, LoadReport]:
    """What was matched, with the digest of the file that it came from in the report."""
    variables, report = matched
    return variables, report._replace(sha256=digest(file))
