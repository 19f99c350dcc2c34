"""One digest for several files: that of the lines which `sha256sum` prints for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tlx.errors import WeightsError
from tlx.files import manifest


def files_digest(files: Mapping[str, Path], where: str, wanted: str = "") -> str:
    """sha256 of a line per file, `DIGEST  NAME`, in the order of the names.

    Raises WeightsError where it does not start with `wanted`."""
    lines = "".join(f"{manifest.digest(files[name])}  {name}\n" for name in sorted(files))
    found = hashlib.sha256(lines.encode()).hexdigest()
    if not found.startswith(wanted.lower()):
        raise WeightsError(
            f"{where} is not what was meant: the sha256 of its files together is {found}, not "
            f"{wanted}. Fetch it again, or correct `sha256`."
        )
    return found


def folder_digest(folder: Path, wanted: str = "") -> str:
    """The same of all files below a folder."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return files_digest(files, str(folder), wanted)
