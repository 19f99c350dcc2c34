"""From installed plugins to test cases: one for each plugin and each check of its kind.

Nothing is listed by hand: plugins come from the registry, checks are the functions `check_*` of
the kind's module here. A plugin is imported when its first case runs, and what several checks of
a plugin need is computed once.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, final

from tlx import registry
from tlx.errors import PluginError, did_you_mean, listed
from tlx.testing.claims import NotApplicable
from tlx.testing.samples import made

Factory: TypeAlias = Callable[..., Any]
Check: TypeAlias = Callable[[Any], None]

KINDS = registry.KINDS


def checks(kind: str) -> dict[str, Check]:
    """Every check of a kind by name, such as `check_features`. PluginError for another kind."""
    found = vars(_module(kind)).items()
    return {name: check for name, check in found if name.startswith("check_")}


def check(kind: str, factory: Factory | str) -> tuple[str, ...]:
    """Run all checks of a kind; the names of those that had something to look at.

    `factory` is what an entry point would name, or a reference such as `mine.py:Mine`; a bare
    function that is a divergence is given as `lambda: function`. Raises ContractError at the
    first check that fails."""
    suspect = _Suspect(kind, factory)
    ran = []
    for name, one in checks(kind).items():
        try:
            one(suspect.subject)
        except NotApplicable:
            continue
        ran.append(name)
    return tuple(ran)


def failures(kind: str, factory: Factory | str) -> dict[str, str]:
    """Every check of a kind that fails, with what it says. `factory` as for `check`."""
    suspect, found = _Suspect(kind, factory), {}
    for name, one in checks(kind).items():
        try:
            one(suspect.subject)
        except NotApplicable:
            continue
        except Exception as e:
            found[name] = f"{type(e).__name__}: {e}"
    return found


def cases(kind: str | None = None, *, distribution: str | None = None) -> list[Any]:
    """One `pytest.param` for each installed plugin and each check of its kind.

    `kind` and `distribution` narrow it down. Raises PluginError where there is nothing to test,
    so that a misspelt name is no green test."""
    import pytest

    found = [
        plugin
        for plugin in registry.find(kind)
        if plugin.kind in KINDS and distribution in (None, plugin.distribution)
    ]
    if not found:
        every = sorted({plugin.distribution for plugin in registry.find()})
        raise PluginError(
            f"The distribution {distribution!r} has no plugin to check."
            f"{did_you_mean(distribution or '', every)} With plugins: {listed(every)}."
        )
    params = []
    for plugin in found:
        suspect = _Suspect(plugin.kind, plugin.reference)
        for name, one in checks(plugin.kind).items():
            label = f"{plugin.kind}/{plugin.name}-{name.removeprefix('check_')}"
            params.append(pytest.param(Case(suspect, one), id=label))
    return params


@final
class Case:
    """One check over one plugin: call it. Skips, with the reason, where the check has nothing to
    look at."""

    def __init__(self, suspect: _Suspect, check: Check):
        self.suspect = suspect
        self.check = check

    def __call__(self) -> None:
        """Run the check."""
        import pytest

        try:
            self.check(self.suspect.subject)
        except NotApplicable as reason:
            pytest.skip(str(reason))


@final
class _Suspect:
    """A plugin that is imported and built on first use, with a folder for its files."""

    def __init__(self, kind: str, factory: Factory | str):
        self.kind = kind
        self.named = factory

    @cached_property
    def factory(self) -> Factory:
        return registry.load(self.kind, self.named) if isinstance(self.named, str) else self.named

    @cached_property
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="tlx-testing-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def subject(self) -> Any:
        def make() -> Any:
            return made(self.kind, self.factory, self.folder)

        return _module(self.kind).Subject(make, self.folder)


def _module(kind: str) -> Any:
    if kind not in KINDS:
        raise PluginError(
            f"There are no checks for {kind!r}.{did_you_mean(kind, KINDS)} Kinds: {listed(KINDS)}."
        )
    return import_module(f"tlx.testing.{kind}")
