"""Plugins, found by name and imported only when used.

A plugin is an entry point in a group `tlx.<kind>` that names a factory, and the factory's
signature is the list of its options. Which plugins exist is read from the metadata of installed
distributions alone. Opens without importing jax.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

from tlx import protocols, quantities
from tlx.contracts import scoring
from tlx.contracts.asking import takes
from tlx.contracts.calls import calling
from tlx.contracts.calls import where as place_of
from tlx.contracts.options import check_options as check_options
from tlx.contracts.options import fitted_options
from tlx.contracts.options import locates as locates
from tlx.contracts.options import schema as schema
from tlx.errors import ConfigError, ContractError, PluginError, TlxError, did_you_mean, listed
from tlx.files.distributions import claims, normal
from tlx.files.python_file import module_of

Factory = Callable[..., Any]

_TABLE: Mapping[str, tuple[str, type]] = {
    "backbones": ("backbone", protocols.Backbone),
    "heads": ("head", protocols.Head),
    "strategies": ("strategy", protocols.Strategy),
    "divergences": ("divergence", protocols.Divergence),
    "steps": ("step", protocols.Step),
    "datasets": ("dataset", protocols.DataSource),
    "augmentations": ("augmentation", protocols.Augmentation),
    "weights": ("source of weights", protocols.WeightSource),
    "sinks": ("sink", protocols.Sink),
    "scores": ("score", protocols.Score),
    "metrics": ("metric", protocols.Metric),
    "inputs": ("input", protocols.Input),
    "fields": ("field", protocols.Field),
}
"""Every kind of plugin: what one is called, and its contract."""
SINGULAR = {kind: noun for kind, (noun, _) in _TABLE.items()}
PROMISES = {kind: contract for kind, (_, contract) in _TABLE.items()}
KINDS = tuple(_TABLE)
WORDS = {"divergences": quantities.MEANING, "scores": scoring.MEANING}
"""Kinds of which a bare function of words is a plugin, too, and not a factory."""

SAYS: Mapping[str, tuple[str, ...]] = {
    "backbones": ("inputs", "features", "modes", "stages", "dialects", "cell"),
    "heads": ("needs", "selection"),
    "strategies": ("keeps", "brings", "smallest_batch", "whole_batch"),
    "divergences": ("reads", "smallest_batch", "whole_batch"),
    "steps": ("accumulate", "skips"),
    "augmentations": ("keeps_places",),
}
"""What a thing says of itself and is asked for all over: one that fails is told once it is made."""
_PLAIN = (bool, int, float, str, bytes, list)
"""What no plugin is."""
_FILE = re.compile(r"(?P<file>.+\.py):(?P<object>[A-Za-z_][\w.]*)")


@final
@dataclass(frozen=True)
class Plugin:
    """One claim of a name: `value` is `module:object` of the factory, not yet imported."""

    kind: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def reference(self) -> str:
        """The reference that chooses this plugin even where others claim its name."""
        return f"{self.distribution}/{self.name}"


def find(kind: str | None = None) -> tuple[Plugin, ...]:
    """Every installed plugin (of one kind), by kind and name, from metadata alone.

    A distribution that is installed twice counts once. Raises PluginError
    for a kind that does not exist."""
    if kind is not None and kind not in SINGULAR:
        raise PluginError(
            f"There is no kind of plugin {kind!r}.{did_you_mean(kind, KINDS)} "
            f"Kinds: {listed(KINDS)}."
        )
    every, _ = _read(tuple(map(_last_change, sys.path)))
    return tuple(plugin for plugin in every if kind in (None, plugin.kind))


def _last_change(folder: str) -> tuple[str, int]:
    """What installing, or taking away, a distribution there changes."""
    try:
        return folder, os.stat(folder or ".").st_mtime_ns
    except OSError:
        return folder, 0


def damage() -> tuple[str, ...]:
    """What is wrong with installed distributions and is no plugin's fault alone: files that cannot
    be read, and groups that nearly are ours."""
    return _read(tuple(map(_last_change, sys.path)))[1]


@functools.lru_cache(maxsize=1)
def _read(_: tuple[tuple[str, int], ...]) -> tuple[tuple[Plugin, ...], tuple[str, ...]]:
    """Every plugin, and what is wrong; a run asks hundreds of times, and the metadata is read for
    the first."""
    found, wrong = claims("tlx")
    ours = {f"tlx.{kind}": kind for kind in KINDS}
    plugins = [Plugin(ours[c.group], *c[1:]) for c in found if c.group in ours]
    for claim in found:
        near = did_you_mean(claim.group, ours)
        if claim.group not in ours and (near or claim.group.startswith("tlx.")):
            wrong.append(
                f"{claim.distribution} {claim.version} has {claim.name!r} in a group that nobody "
                f"reads, [{claim.group}].{near}"
            )
    order = sorted(plugins, key=lambda p: (KINDS.index(p.kind), p.name, p.reference))
    return tuple(order), tuple(wrong)


def choose(kind: str, reference: str, plugins: Iterable[Plugin] | None = None) -> Plugin | None:
    """The plugin that a reference means, without importing it; None for `file.py:Object`.

    Raises PluginError for a name that nobody or more than one distribution claims, and for a
    file that is not there. `plugins` saves reading the metadata again."""
    noun = SINGULAR.get(kind, kind)
    if file := _FILE.fullmatch(reference):
        if not Path(file["file"]).is_file():
            raise PluginError(
                f"The {noun} {reference!r} needs the file {Path(file['file']).absolute()}, "
                f"which does not exist."
            )
        return None
    if reference.endswith(".py"):
        raise PluginError(f"Name the object in the file for a {noun}: '{reference}:Object'.")
    every = tuple(p for p in (find(kind) if plugins is None else plugins) if p.kind == kind)
    distribution, _, name = _split(reference)[0].rpartition("/")
    owner = normal(distribution)
    those = [p for p in every if p.name == name and owner in ("", normal(p.distribution))]
    if not those:
        known = [p.reference if distribution else p.name for p in every]
        wanted = f"{distribution}/{name}" if distribution else name
        nor = ", and no file of weights is called so" if kind == "weights" else ""
        raise PluginError(
            f"No {noun} {wanted!r} is installed{nor}.{did_you_mean(wanted, known)} "
            f"Installed {kind}: {listed(sorted(set(known)))}."
        )
    if len(those) > 1:
        raise PluginError(
            f"The {noun} {name!r} is claimed by {len(those)} distributions: "
            f"{listed(f'{p.distribution} {p.version} ({p.value})' for p in those)}. "
            f"Write {' or '.join(repr(p.reference) for p in those)} to choose."
        )
    return those[0]


def is_file(reference: str) -> bool:
    """Whether a reference is `file.py:Object`, so that loading it runs a file."""
    return _FILE.fullmatch(reference) is not None


def load(kind: str, reference: str) -> Factory:
    """The factory that a reference names, imported now.

    A reference is `name`, `distribution/name`, `scheme:rest` (the plugin `scheme`; `rest` becomes
    its factory's first parameter) or `file.py:Object` (a file, relative to the current folder).
    Raises PluginError for a reference that names nothing or a plugin that fails to import."""
    plugin = choose(kind, reference)
    if plugin is None:
        return _factory(kind, _from_file(kind, reference), reference)
    factory = _factory(kind, _imported(plugin), plugin.reference)
    _, rest = _split(reference)
    if rest is None:
        return factory
    options = schema(factory)
    if not options:
        raise PluginError(
            f"The {SINGULAR[kind]} {plugin.name!r} takes no options, so nothing can stand after "
            f"':' in {reference!r}."
        )
    return functools.partial(factory, **{options[0].name: rest})


def build(
    kind: str,
    reference: str,
    options: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    where: str = "",
) -> Any:
    """The thing that a reference and its options make.

    `given` are values that the core offers, used where the factory has such a parameter and
    `options` does not set it. Raises PluginError as `load` does, ConfigError that lists every
    problem with the options (each opening with `where`, the dotted path in the run file)."""
    given = given or {}
    factory = load(kind, reference)
    fitting, problems = fitted_options(factory, options or {}, tuple(given), where)
    noun = f"{SINGULAR[kind]} {reference!r}"
    if problems:
        raise ConfigError(f"The options of the {noun} are wrong:\n  " + "\n  ".join(problems))
    offered = {o.name: given[o.name] for o in schema(factory) if o.name in given}
    at = f"{where}: " if where else ""
    with calling(f"{at}the {noun}" if at else f"The {noun}", factory):
        try:
            made = factory(**(offered | fitting))
        except ValueError as error:
            raise ConfigError(f"{at}the {noun} refused its options: {error}") from error
    if made is None or isinstance(made, _PLAIN):
        raise ContractError(
            f"{at}{'the' if at else 'The'} {noun} is made as a {type(made).__name__}, which has "
            f"no {listed(_promised(kind))}. Does its factory return it?"
        )
    if lacks := _lacking(kind, made):
        plugin = choose(kind, reference)
        of = f" of {plugin.distribution} {plugin.version}" if plugin else ""
        known = [name for name in dir(made) if not name.startswith("_")]
        raise ContractError(
            f"{at}{'the' if at else 'The'} {noun}{of} is made as {type(made).__name__}"
            f"{place_of(made)}, which has no {listed(map(repr, lacks))} as its contract says."
            f"{did_you_mean(lacks[0], known)} The kit of tlx.testing holds a plugin against it."
        )
    for name in filter(functools.partial(hasattr, type(made)), SAYS.get(kind, ())):
        with calling(f"{at}`{name}` of the {noun}", made):
            getattr(made, name)
    return made


def _lacking(kind: str, made: Any) -> list[str]:
    """Members of the contract of a kind that a thing does not have; no property is computed."""
    if kind == "augmentations" and hasattr(made, "mix"):
        return []
    none = object()
    return [
        name
        for name in _promised(kind)
        if inspect.getattr_static(made, name, none) is none
        and (not hasattr(type(made), "__getattr__") or not hasattr(made, name))
    ]


def _promised(kind: str) -> tuple[str, ...]:
    """What a plugin of a kind has, as the contracts say."""
    names = vars(PROMISES[kind])
    return tuple(name for name in names if name == "__call__" or not name.startswith("_"))


def status(kind: str | None = None, *, imported: bool = True) -> tuple[tuple[Plugin, str], ...]:
    """Every plugin with the reason why it cannot be used, or '' where it can.

    Imports each one, unless `imported` is False: then only names claimed twice are seen."""
    plugins = find(kind)
    return tuple((plugin, _trouble(plugin, plugins, imported)) for plugin in plugins)


def broken(kind: str | None = None) -> tuple[tuple[Plugin, str], ...]:
    """The plugins that cannot be used, each with the reason."""
    return tuple((plugin, reason) for plugin, reason in status(kind) if reason)


def _trouble(plugin: Plugin, plugins: Iterable[Plugin], imported: bool) -> str:
    try:
        choose(plugin.kind, plugin.name, plugins)
        if imported:
            _factory(plugin.kind, _imported(plugin), plugin.reference)
    except TlxError as error:
        return str(error)
    return ""


def _split(reference: str) -> tuple[str, str | None]:
    scheme, colon, rest = reference.partition(":")
    return scheme, rest if colon else None


def _factory(kind: str, thing: Any, reference: str) -> Factory:
    if not callable(thing):
        raise PluginError(
            f"The {SINGULAR[kind]} {reference!r} names {thing!r}, which is no factory: it must be "
            f"a class or a function."
        )
    if takes(thing, WORDS.get(kind, {})):
        return lambda: thing
    return thing


def _imported(plugin: Plugin) -> Any:
    point = metadata.EntryPoint(plugin.name, plugin.value, f"tlx.{plugin.kind}")
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {SINGULAR[plugin.kind]} {plugin.name!r} of {plugin.distribution} "
            f"{plugin.version} is broken: {_reason(error)}"
        ) from error


def _from_file(kind: str, reference: str) -> Any:
    match = _FILE.fullmatch(reference)
    assert match, "`choose` returns None for such references alone"
    path = Path(match["file"]).resolve()
    try:
        thing = module_of(path)
        for part in match["object"].split("."):
            if not hasattr(thing, part):
                public = [n for n in vars(thing) if not n.startswith("_")]
                raise PluginError(
                    f"The file {match['file']} has no {match['object']!r}."
                    f"{did_you_mean(part, public)} It has: {listed(public)}."
                )
            thing = getattr(thing, part)
    except TlxError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {SINGULAR[kind]} {reference!r} cannot be imported: {_reason(error)}"
        ) from error
    return thing


def _reason(error: BaseException) -> str:
    """What went wrong while importing, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    at = ""
    if frames and "<frozen" not in frames[-1].filename:
        at = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return f"{type(error).__name__}: {error}{at}".replace("\n", " ")
