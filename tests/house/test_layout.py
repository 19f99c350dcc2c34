"""The layout is kept by tests: size and naming of files, docstrings, floors, light imports."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
LIGHT = ("types", "errors", "protocols", "quantities", "registry", "config", "cli")
HEAVY = ("jax", "numpy")
SIZE = 350


def tracked() -> list[Path]:
    """Every file that git has or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_check() -> None:
    assert len(python_files()) > 20
    assert len(PLUGINS) >= 8


def test_files_are_short() -> None:
    """One idea per file; a file that grows past the limit holds two. A test file mirrors the file
    that it tests, so its length is not its own."""
    ours = [path for path in python_files() if "tests" not in path.parts]
    lengths = {shown(path): len(path.read_text().splitlines()) for path in ours}
    assert not {name: lines for name, lines in lengths.items() if lines >= SIZE}


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert not [shown(path) for path in python_files() if path.name in vague]


def test_every_module_says_what_it_is() -> None:
    silent = [
        shown(path)
        for path in python_files()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in python_files() if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("module", LIGHT)
def test_opens_without_arrays(module: str) -> None:
    """What answers `tlx --help` and a wrong run file opens without jax and numpy."""
    code = f"import sys, tlx.{module}; print(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_floors_hold() -> None:
    """Plugins know no other plugin, the core no framework, a floor nothing above it."""
    code = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_plugin_is_under_the_import_rules() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    packages = {path.parent.name for folder in PLUGINS for path in folder.glob("*/__init__.py")}
    places = {
        "importlinter": "root_packages",
        "importlinter:contract:core": "forbidden_modules",
        "importlinter:contract:plugins": "modules",
    }
    for section, key in places.items():
        kinds = set(parser["importlinter:contract:kinds"]["source_modules"].split())
        listed = kinds if key == "modules" else set()  # which every plugin may use
        missing = packages - set(parser[section][key].split()) - listed
        assert not missing, f"[{section}] {key} in .importlinter lacks {sorted(missing)}."


def test_no_machine_is_named() -> None:
    """No absolute path of somebody's machine and no package index: both differ elsewhere."""
    folders = "|".join(("work", "root", "home/[a-z]"))
    hosts = "|".join(("py" + r"pi\.", "python" + "hosted", "artifact" + "ory", "/sim" + "ple/"))
    foreign = re.compile(rf"(?<![\w.}}])/(?:{folders})/|https?://[^\s\"')>]*(?:{hosts})")
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [f"{shown(path)}:{n}: {line[:80]}" for n, line in lines if foreign.search(line)]
    assert not found, "\n".join(found)


def test_changelog_knows_this_version() -> None:
    import tlx

    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\[?Unreleased|\[?" + re.escape(tlx.__version__) + ")", text, re.M)
