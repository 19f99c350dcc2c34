"""A run file as it lies on a disk: its table, before anybody asks what it means."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from tlx.errors import ConfigError, Refused
from tlx.files.plain_text import read_text


def read_table(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises ConfigError for what is no TOML or no text in UTF-8."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    except Refused as error:
        raise ConfigError(f"{path} is not valid TOML: it {error}.") from error
