"""`tlx new-plugin KIND NAME`: a distribution of its own that installs, works and is tested.

Each kind has a template of a small working plugin under `templates/`; around it come metadata
with the entry point, a README and a test that runs the conformance kit over it.
"""

from __future__ import annotations

import keyword
import re
from importlib import metadata, resources
from pathlib import Path
from string import Template

from tlx import registry
from tlx.errors import ConfigError, PluginError, did_you_mean, listed

USE = {
    "backbones": '[backbone]\nname = "$name"',
    "heads": '[head]\nname = "$name"',
    "strategies": '[strategy]\nname = "$name"',
    "divergences": '[[divergence]]\nname = "$name"\nweight = 0.1',
    "steps": '[step]\nname = "$name"',
    "datasets": '[data]\nname = "$name"',
    "augmentations": '[[augmentation]]\nname = "$name"',
    "weights": '[weights]\nname = "$name"\npath = "weights.npz"',
    "sinks": '[[sink]]\nname = "$name"',
    "metrics": '[[metric]]\nname = "$name"',
    "inputs": '[backbone]\nname = "mine.py:Mine"  # whose `inputs` are a $name',
    "fields": '[data]\nname = "mine.py:Mine"  # whose `info.fields` have a $name',
    "scores": "tlx rank photos --score $name",
}
"""What a run file, or for a score the command line, says to use a plugin. Its keys are the kinds
that have a template."""
SINGULAR = {kind: registry.SINGULAR[kind] for kind in USE} | {"weights": "weights"}
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


def new_plugin(kind: str, name: str, folder: Path) -> tuple[Path, ...]:
    """Write the distribution `tlx-NAME` into `folder`; the files that were written.

    `kind` is 'divergences' or 'divergence', `name` lower-case words joined by '-' or '_'. Raises
    ConfigError for a kind or name that cannot be and for a folder that is there already,
    PluginError for a name that somebody has."""
    kind = _kind(kind)
    plugin = _name(name).replace("-", "_")
    distribution = f"tlx-{plugin.replace('_', '-')}"
    _unclaimed(kind, plugin, distribution)
    root = folder / distribution
    if root.exists():
        raise ConfigError(f"{root} exists already. Remove it or choose another name.")
    module = f"tlx_{plugin}"
    words = {
        "name": plugin,
        "distribution": distribution,
        "module": module,
        "Class": "".join(part.capitalize() for part in plugin.split("_")),
        "kind": kind,
        "noun": SINGULAR[kind],
    }
    table = kind != "scores"
    words["where"], words["language"] = ("a run file", "toml") if table else ("a ranking", "sh")
    words["use"] = Template(USE[kind]).substitute(words)
    files = {
        root / "pyproject.toml": "pyproject.toml",
        root / "README.md": "README.md",
        root / module / "__init__.py": "package.py",
        root / module / f"{plugin}.py": f"{kind}.py",
        root / "tests" / f"test_{plugin}.py": "test.py",
    }
    texts = {path: _filled(template, words) for path, template in files.items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(texts)


def _kind(kind: str) -> str:
    plural = {noun: kinds for kinds, noun in SINGULAR.items()}
    if kind not in USE and kind not in plural:
        raise ConfigError(
            f"There is no template for a plugin of kind {kind!r}."
            f"{did_you_mean(kind, [*USE, *plural])} Kinds: {listed(USE)}."
        )
    return plural.get(kind, kind)


def _name(name: str) -> str:
    name = name.removeprefix("tlx-").removeprefix("tlx_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot name a plugin: a name is made of lower-case letters and digits, "
            f"starts with a letter, joins words by '-' or '_' and is no word of Python."
        )
    return name


def _unclaimed(kind: str, plugin: str, distribution: str) -> None:
    for claim in registry.find(kind):
        if claim.name == plugin:
            raise PluginError(
                f"The {SINGULAR[kind]} {plugin!r} exists already in {claim.distribution} "
                f"{claim.version}; a name that is claimed twice can be used by nobody. Choose "
                f"another."
            )
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return
    raise PluginError(
        f"The distribution {distribution} {version} is installed already. Choose another name, or "
        f"add the {SINGULAR[kind]} to that distribution: one file and one line in its "
        f"pyproject.toml."
    )


def _filled(template: str, words: dict[str, str]) -> str:
    """A template with its words put in; KeyError for a word that it does not know."""
    file = resources.files("tlx.scaffold").joinpath("templates", f"{template}.txt")
    return Template(file.read_text("utf-8")).substitute(words)
