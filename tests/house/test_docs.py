"""The documents name what is there: plugins, commands, keys, words, modules, tests, links."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tlx import cli
from tlx.contracts import scoring
from tlx.quantities import MEANING
from tlx.run_file.run_config import OWN_KEYS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")])
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """The body of the table whose heading row begins with a cell, without backticks."""
    body = re.search(rf"^\| {heading} \|.*\n\|[- |]+\n((?:\|.*\n?)+)", text, re.M)
    assert body, f"There is no table headed {heading!r}."
    cells = (re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in body[1].splitlines())
    return [[cell.strip() for cell in row] for row in cells]


def ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_readme_lists_the_plugins_of_this_repository() -> None:
    # By what they declare: an installation may be older than the tree.
    declared: dict[str, set[str]] = {}
    for name in PLUGINS:
        project = tomllib.loads(read(f"plugins/{name}/pyproject.toml"))["project"]
        for group, points in project.get("entry-points", {}).items():
            declared.setdefault(group.removeprefix("tlx."), set()).update(points)
    assert {kind: set(ticked(names)) for kind, names in rows(read("README.md"), "kind")} == declared


def test_how_far_scores_are_trusted_is_what_was_measured() -> None:
    measured = json.loads(read("benchmarks/results/rank_trust.json"))
    listed = rows(read("docs/which_source.md"), "measured")
    assert {ticked(row[0])[0] for row in listed} == set(measured["probe"])
    for name, *cells, sources in listed:
        for way, cell in zip(("probe", "finetune"), cells, strict=True):
            found = measured[way][ticked(name)[0]]
            low, high = found["interval"]
            assert cell == f"{found['tau']:.2f} ({low:.2f} to {high:.2f})", (name, way)
            assert int(sources) == found["sources"]


@pytest.mark.parametrize(
    "table", ["how many times as fast", "the same work, times as fast", "what"]
)
def test_how_fast_it_is_said_to_be_is_what_was_measured(table: str) -> None:
    for what, said, measured in rows(read("docs/speed.md"), table):
        name, entry = ticked(measured)
        found = json.loads(read(f"benchmarks/results/{name}.json"))
        for key in entry.split("/"):
            found = found[key]
        assert said == f"{found:.{len(said.partition('.')[2])}f}", what


def test_the_readme_lists_the_commands() -> None:
    actions = cli.parser()._subparsers._group_actions  # type: ignore[union-attr]
    (verbs,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
    listed = [ticked(row[0])[0].split()[1] for row in rows(read("README.md"), "command")]
    assert listed == list(verbs.choices)


def test_the_readme_lists_the_keys_of_a_run_file() -> None:
    for table, _, keys in rows(read("README.md"), "table"):
        key = ticked(table)[0].strip("[]")
        if key in OWN_KEYS:
            own = set(OWN_KEYS[key]) - {"name"}
            assert own == {word for word in ticked(keys) if not word.startswith('"')}, key


def test_the_readme_offers_no_word_that_does_not_exist() -> None:
    sentence = read("README.md").split("these words and no others:")[1].split(". ")[0]
    assert len(ticked(sentence)) > 10
    assert set(ticked(sentence)) <= set(MEANING)


def test_the_design_explains_every_word() -> None:
    design = read("docs/design.md")
    assert {word for row in rows(design, "word") for word in ticked(row[0])} == set(MEANING)


def test_the_design_explains_every_word_of_a_score() -> None:
    found = rows(read("docs/design.md"), "word of a score")
    assert {word for row in found for word in ticked(row[0])} == set(scoring.MEANING)


def test_the_design_knows_every_file_of_the_core() -> None:
    design = read("docs/design.md")
    table = design.split("| file | idea |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (?:· )?(?:\*\*)?`([\w/]+)(?:\.py|/)`", table, re.M)
    folders = {path.parent for path in ROOT.glob("tlx/*/__init__.py")}
    opaque = {ROOT / "tlx/testing", ROOT / "tlx/scaffold"}
    files = {path for folder in {ROOT / "tlx"} | folders - opaque for path in folder.glob("*.py")}
    there = {p.with_suffix("") for p in files if p.name != "__init__.py"} | folders
    assert sorted(rows) == sorted(p.relative_to(ROOT / "tlx").as_posix() for p in there)


def test_files_with_a_dot_open_without_arrays() -> None:
    names = re.findall(r"^\| · `([\w/]+)\.py`", read("docs/design.md"), re.M)
    assert len(names) > 10
    opened = ", ".join(f"tlx.{name.replace('/', '.')}" for name in names)
    code = f"import sys, {opened}; print(*({{'jax', 'numpy'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_tests_that_the_design_names_exist() -> None:
    design = read("docs/design.md")
    named = re.findall(r"`(test_\w+)::(test_\w+)`", design)
    assert len(named) > 10
    # Not every `tests` below: an environment may lie in the clone, with the tests of its packages.
    places = (*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("plugins/*/tests/**/test_*.py"))
    sources = {path.stem: path.read_text() for path in places}
    missing = [
        f"{file}::{test}" for file, test in named if f"def {test}(" not in sources.get(file, "")
    ]
    assert not missing


def test_requirements_install_every_plugin() -> None:
    lines = [line for line in read("requirements.txt").splitlines() if line.startswith("-e ")]
    assert lines == ["-e .", *(f"-e ./plugins/{name}" for name in PLUGINS)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    broken = [
        link for link in links
        if not link.startswith(("http:", "https:")) and not (path.parent / link).exists()
    ]  # fmt: skip
    assert not broken


@pytest.mark.parametrize("home", [ROOT, *(ROOT / "plugins" / name for name in PLUGINS)])
def test_every_distribution_states_and_carries_its_licence(home: Path) -> None:
    project = tomllib.loads((home / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (home / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert text == read("LICENSE")
