"""Files that are of another network than the backbone: what is wrong with them, and the way out.

Accounting has two sides. A leaf that the file lacks stays random; a tensor of the network that has
no leaf here was part of what the file's numbers were trained for. Either makes numbers that belong
to no network, and so does a file that says itself that it is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tlx import trees
from tlx.config import WeightsConfig
from tlx.contracts.calls import calling, has_said
from tlx.contracts.declared import fault_of_tensors
from tlx.contracts.dialect import Dialect
from tlx.contracts.file_facts import architecture_of
from tlx.errors import ConfigError, WeightsError, did_you_mean, listed
from tlx.protocols import WeightSource
from tlx.types import LoadReport, Tensors

SHOWN = 8


def tensors_of(name: str, source: WeightSource) -> Tensors:
    """All that the weights of a name hold. Raises ContractError where their source fails, or gives
    anything else."""
    with calling(f"`tensors` of the weights {name!r}", source.tensors):
        found = source.tensors()
    has_said(f"`tensors` of the weights {name!r}", source, fault_of_tensors(found))
    return found


def refuse_others(
    config: WeightsConfig,
    source: WeightSource,
    report: LoadReport,
    dialects: Sequence[Dialect],
    unread: frozenset[str] = frozenset(),
) -> None:
    """Raise WeightsError where leaves of the backbone (or of the head, where that is kept) are not
    in the file, where tensors of the file's network have no leaf, unless a glob of `allow` covers
    them, and where the file states an architecture that is not the backbone's; ConfigError for a
    glob of `allow` that covers nothing there is. Leaves that nobody reads (`unread`) may be
    lacking."""
    parts = ("backbone", "head") if config.head == "keep" else ("backbone",)
    lacking = [
        (leaf.path, leaf.why)
        for leaf in report.initialised
        if trees.part(leaf.path) in parts
        and leaf.path not in unread
        and not _covered(leaf.path, config)
    ]
    left = [
        (tensor.name, tensor.why)
        for tensor in report.skipped
        if tensor.part == "backbone" and not _covered(tensor.name, config, report.prefix)
    ]
    said = architecture_of(source)
    if lacking or left:
        raise WeightsError(_unlike(config, report, lacking, left, said))
    known = [glob for dialect in dialects for glob in dialect.architectures]
    if said and known and said != config.architecture and not _is_of(said, known):
        raise WeightsError(
            f"The weights {config.name!r} say that their network is {said!r}; this backbone goes "
            f"by {listed(dict.fromkeys(known))}. A network of another name computes something else "
            f"even where its tensors fit. Choose the backbone that they were made for, or, if it "
            f'is the same after all, write [weights] architecture = "{said}".'
        )
    _check_globs(config, report)


def _covered(name: str, config: WeightsConfig, prefix: str = "") -> bool:
    return any(
        fnmatchcase(one, glob) for one in (name, name.removeprefix(prefix)) for glob in config.allow
    )


def _unlike(
    config: WeightsConfig,
    report: LoadReport,
    lacking: Sequence[tuple[str, str]],
    left: Sequence[tuple[str, str]],
    said: str,
) -> str:
    """How the two differ, side by side."""
    counts = [f"{len(lacking)} leaves are missing or differ"] if lacking else []
    counts += [f"{len(left)} tensors of the file's network have no place here"] if left else []
    lines = [f"The weights {config.name!r} do not fit the backbone: {', and '.join(counts)}."]
    for rows in (lacking, left):
        lines += [f"  {name}: {why}" for name, why in rows[:SHOWN]]
        lines += [f"  and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    if lacking and not left:
        other = listed([tensor.name for tensor in report.skipped[:5]])
        lines.append(f"Not used from the file: {other}.")
    if said:
        lines.append(f"The file calls its network {said!r}.")
    lines.append(
        "Choose the backbone that the weights were made for ('tlx weights inspect' says which), or "
        'list what may differ in [weights] allow = ["pattern", ...].'
    )
    return "\n".join(lines)


def _is_of(said: str, known: Sequence[str]) -> bool:
    """Whether a name is one of a family's; timm writes a tag behind a dot."""
    name = said.rpartition("/")[2].partition(".")[0].lower()
    return any(fnmatchcase(name, glob) for glob in known)


def _check_globs(config: WeightsConfig, report: LoadReport) -> None:
    leaves = [leaf.path for leaf in (*report.loaded, *report.initialised)]
    names = [*leaves, *(tensor.name for tensor in report.skipped)]
    bare = [name.removeprefix(report.prefix) for name in names]
    for glob in config.allow:
        if not any(fnmatchcase(name, glob) for name in (*names, *bare)):
            raise ConfigError(
                f"[weights] allow = {glob!r} matches neither a leaf nor a tensor that was left "
                f"over.{did_you_mean(glob, names)} There are {len(leaves)} leaves, such as "
                f"{listed(leaves[:3])}."
            )
