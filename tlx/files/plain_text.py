"""A text file that a person wrote, whatever his editor put around it.

Some editors begin UTF-8 with a byte order mark, some end lines with a carriage return, some write
UTF-16; the first two change nothing, the last is said.
"""

from __future__ import annotations

from pathlib import Path

from tlx.errors import Refused

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """The text of a file, see `decoded`. Raises OSError as `Path.read_bytes` does."""
    return decoded(path.read_bytes())


def decoded(content: bytes) -> str:
    """Text in UTF-8 without a byte order mark, lines ended by `\\n` alone. Raises Refused for
    UTF-16 and for what is no UTF-8."""
    zeros = content[:200].count(b"\0")
    if content.startswith(_UTF_16) or 3 * zeros > len(content[:200]):
        raise Refused(
            "is stored as UTF-16, which some editors and shells call Unicode; save it as UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refused(
            f"is not stored as UTF-8 (the byte {content[error.start]:#04x} in line {line}); save "
            f"it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
