"""What the documents show is run, in the order in which it stands there.

A block that opens with a file's name is that file. Commands run in a folder with `examples/` and
`photos/`; what installs or calls the tests again is compared with `.ci/run` instead.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tlx import cli, config, registry
from tlx.testing import check

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "pip install -r requirements.txt"
FIRST = f"{INSTALL} && tlx run examples/digits.toml"
TESTS = f"{INSTALL} -r requirements-dev.txt && pytest"
ELSEWHERE = ("bash", "pip", "pytest", "python", "python3", "tfds")
"""Commands that are not run here; examples have tests of their own."""
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/README.md"))
SMALLER = {
    "README.md": {
        "epochs = 20\nbatch_size = 50": "epochs = 1\nbatch_size = 20",
        "shots = 10 ": "shots = 4\ntest = 60\n",
    }
}
"""What stands in a document's files and is less where they are run here: the same with less."""
SHORTEST = {"name": "shown", "data": "digits", "backbone": "resnet20"}
"""What a part of a run file is laid over."""


class Block(NamedTuple):
    """A fenced block of a document; `file` is the name that its first line gives, if any."""

    place: str
    language: str
    text: str
    file: str | None


def blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        named = re.match(r"# (\S+\.(?:py|toml))\n", found[2])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(f"{document}, line {line}", found[1], found[2], named and named[1])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples and 24 photos in two classes."""
    folder = tmp_path_factory.mktemp("workshop")
    shutil.copytree(ROOT / "examples", folder / "examples")
    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 100, (32, 32, 3), np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_shows_works(
    document: str, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop)
    run = {"sh": commands, "python": python, "toml": toml, "text": lambda block: None}
    for block in blocks(document):
        assert block.language in run, f"{block.place}: say what the block is."
        print(f"--- {block.place}")
        if block.file:
            path = workshop / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(smaller(block.text, SMALLER.get(document, {})))
        run[block.language](block)


def test_what_is_made_smaller_is_there() -> None:
    for document, instead in SMALLER.items():
        text = "".join(block.text for block in blocks(document) if block.file)
        assert [long for long in instead if long not in text] == []


def smaller(text: str, instead: dict[str, str]) -> str:
    for long, short in instead.items():
        text = text.replace(long, short)
    return text


def commands(block: Block) -> None:
    """Lines that call `tlx`, in this process."""
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "tlx":
            assert cli.main([*words[1:], "--debug"]) == 0, line
        elif words:
            assert words[0] in ELSEWHERE, f"{block.place}: how should a test run {line!r}?"


def python(block: Block) -> None:
    """The block as a program of its own."""
    path = Path(block.file or "shown.py")
    path.write_text(block.text)
    runpy.run_path(str(path))


def toml(block: Block) -> None:
    """A run file, or a part of one, that passes every check; or the entry points of a plugin."""
    table = tomllib.loads(block.text)
    if Path(block.file or "").name == "pyproject.toml":
        groups = table["project"]["entry-points"]
        assert {group.removeprefix("tlx.") for group in groups} <= set(registry.KINDS)
    else:
        config.check(config.parse(SHORTEST | table, block.place))


def test_the_first_output_is_what_the_first_command_prints(digits_run) -> None:
    """Line by line, `...` for lines left out; numbers and the device may differ."""
    every = list(blocks("README.md"))
    first = next(n for n, block in enumerate(every) if block.text.strip() == FIRST)
    shown = every[first + 1].text.splitlines()
    assert len(shown) >= 10, digits_run.output
    there = "\n".join(masked(digits_run.output.splitlines()))
    for part in "\n".join(masked(shown)).split("\n...\n"):
        _, found, there = there.partition(part.strip("\n"))
        assert found, f"Not printed:\n{part}\n\nPrinted:\n{digits_run.output}"


def masked(lines: list[str]) -> list[str]:
    """Lines without what a machine or a random number decides."""
    found = []
    for line in lines:
        line = re.sub(r"^(\s*(?:device|in short)\s).*", r"\1", line)
        line = re.sub(r"(?<!\w)\d+([,.]\d+)*", "0", line)
        line = re.sub(r"\b0 min 0 s\b", "0 s", line)
        line = re.sub(r"(predict runs/digits/)[\w-]+", r"\1BEST", line)
        line = re.sub(r"\bbest\b", "", line) if line.lstrip().startswith("step") else line
        found.append(re.sub(r"\s+", " ", line).strip())
    return found


def test_the_first_command_answers_within_its_folder(digits_run) -> None:
    left = {path.name for path in (digits_run.folder / "runs" / "digits").iterdir()}
    assert {"run.toml", "result.json", "report.html"} <= left


def test_the_two_commands_stand_in_the_readme() -> None:
    lines = [
        line for block in blocks("README.md") if block.language == "sh"
        for line in block.text.splitlines()
    ]  # fmt: skip
    assert lines[0] == FIRST
    assert lines.count(TESTS) == 1


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """`.ci/run` reads the command from the README, with a pattern that finds exactly that."""
    script = (ROOT / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -m 1 -E '([^']+)' README\.md", script)
    readme = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in readme if re.search(pattern, line)] == [TESTS]
    steps = re.findall(r'^ {4}"(.+)"(?:; do| \\)$', script, re.M)
    assert steps[0] == "${tests%% && *}"
    assert steps[-1] == "$tests"


def test_the_divergence_of_the_readme_keeps_the_contract(tmp_path: Path) -> None:
    """Every check of the kit has something to look at, but those of optional contracts."""
    (block,) = (b for b in blocks("README.md") if b.file == "my_divergence.py")
    lines = [line for line in block.text.splitlines()[1:] if line.strip()]
    assert len(lines) <= 10
    file = tmp_path / "my_divergence.py"
    file.write_text(block.text)
    ran = check("divergences", f"{file}:CosineFeatures")
    assert {"check_words", "check_gradient", "check_jit_equals_eager"} <= set(ran)
