"""Distributions that exist only in a test's folder."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`install("dist", {"heads": {"name": "module:object"}}, module="source")` in a world where
    nothing else is installed."""
    folders: list[str] = []
    found = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: found(path=folders))

    def install(
        name: str,
        plugins: dict[str, dict[str, str]],
        version: str = "1.0",
        place: str = "site",
        **modules: str,
    ) -> Path:
        site = tmp_path / place
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = [
            "\n".join([f"[tlx.{kind}]", *(f"{key} = {value}" for key, value in names.items())])
            for kind, names in plugins.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(["[console_scripts]", *groups, ""]))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
        if str(site) not in folders:
            folders.append(str(site))
            monkeypatch.syspath_prepend(site)
        return site

    return install
