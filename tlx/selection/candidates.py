"""What a person types for a source model, as a network with numbers.

`BACKBONE` stands for the packaged weights that fit it, `BACKBONE=WEIGHTS` for a file or a
reference, `BACKBONE=none` for random numbers, a folder for the run that left it, and weights alone
for the backbone that they fit best.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax

from tlx import registry
from tlx.config import SourceConfig, WeightsConfig
from tlx.errors import ConfigError, TlxError, did_you_mean, listed
from tlx.model import Model
from tlx.protocols import Head
from tlx.run_file.packaged_weights import SOME, owner, packages
from tlx.run_file.run_config import Part
from tlx.run_file.weight_reference import reference
from tlx.run_folder.folder import read_result
from tlx.weights import sources
from tlx.weights.inspection import inspect
from tlx.weights.refusals import tensors_of
from tlx.weights.sources import Source

RANDOM = "none"


class Candidate(NamedTuple):
    """A source model under the `name` that it is told by; `accuracy` on its own test data, where
    its run says it."""

    name: str
    source: Source
    accuracy: float | None = None

    @property
    def parameters(self) -> int:
        """How many numbers its backbone learns."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.source.variables.params["backbone"]))


def named(texts: Sequence[str] | None) -> dict[str, str]:
    """Name -> what was typed, for every packaged source where that is None: without folders, where
    that leaves them apart. Raises ConfigError for the same one twice."""
    texts = packaged() if texts is None else texts
    if twice := sorted({text for text in texts if texts.count(text) > 1}):
        raise ConfigError(f"The source {twice[0]!r} is named twice.")
    short = [_short(text) for text in texts]
    return {
        one if short.count(one) == 1 else text: text for one, text in zip(short, texts, strict=True)
    }


def candidate(text: str, name: str, *, trust_code: bool = False) -> Candidate:
    """The source that a person means by `text`, called `name`; `trust_code` as for `tlx.load`.
    Raises TlxErrors for what is none."""
    backbone, equals, weights = text.partition("=")
    if equals and weights == RANDOM:
        return Candidate(name, _random(backbone))
    if not equals and reference(text) == f"run:{text}":  # a folder, not a reference already
        source = _loaded(SourceConfig(run=text, trust_code=trust_code))
        return Candidate(name, source, _accuracy(Path(text).expanduser()))
    if not equals:
        backbone, weights = _completed(text, trust_code)
    config = WeightsConfig(name=reference(weights))
    source = _loaded(SourceConfig(backbone=Part(backbone), weights=config, trust_code=trust_code))
    opened = sources.open_weights(config, trust_code=trust_code)
    origin = Path(tensors_of(config.name, opened).origin)
    return Candidate(name, source, _accuracy(origin) if origin.is_dir() else None)


@cache
def packaged() -> tuple[str, ...]:
    """The weights that come with an installed plugin and say which backbone they are for."""
    return tuple(p.name for p in registry.find("weights") if owner(p.reference))


def _completed(text: str, trust_code: bool) -> tuple[str, str]:
    """Backbone and weights, where one of them was left out."""
    backbones = [plugin.name for plugin in registry.find("backbones")]
    if text in backbones:
        fitting = packages(text, {}).fit
        if len(fitting) != 1:
            which = "No packaged weights fit" if not fitting else f"{listed(fitting)} all fit"
            raise ConfigError(
                f"{which} the backbone {text!r}. Name some: {text}=WEIGHTS, which takes {SOME}; "
                f"{text}={RANDOM} for random numbers. Packaged: {listed(packaged())}."
            )
        return text, fitting[0]
    known = [*packaged(), *backbones]
    if ":" not in reference(text) and text not in packaged():
        raise ConfigError(
            f"{text!r} is no source: neither a backbone nor weights, nor the folder of a run."
            f"{did_you_mean(text, known)} Packaged: {listed(packaged())}."
        )
    if (backbone := owner(text) or _fit(text, trust_code)) is None:
        raise ConfigError(
            f"The weights {text!r} fit no installed backbone. Say which it is: BACKBONE={text}."
        )
    return backbone, text


@cache
def _fit(weights: str, trust_code: bool = False) -> str | None:
    """The backbone that weights fit best, where they fill all of it."""
    best = next(iter(inspect(weights, trust_code=trust_code)["fits"]), None)
    return best["backbone"] if best and best["filled"] == best["leaves"] else None


def _loaded(config: SourceConfig) -> Source:
    return sources.others({"source": config}, _head)["source"]


def _random(backbone: str) -> Source:
    """A network that has learnt nothing: what every source has to beat."""
    body = registry.build("backbones", backbone)
    model = Model(body, None, body.inputs)
    initial = sources.begun(model)
    return Source(model, initial.filled(initial.shapes), None)


def _head(classes: int) -> Head:
    return registry.build("heads", "softmax", given={"classes": classes})


def _short(text: str) -> str:
    """Without the folders that files lie in; a reference such as hf:OWNER/NAME stays whole."""
    parts = text.split("=")
    return "=".join(
        part if ":" in part.partition("/")[0] else Path(part).name or part for part in parts
    )


def _accuracy(folder: Path) -> float | None:
    """The accuracy on the test split that a run has left beside its model, or in its folder."""
    for place in (folder, folder.parent if folder.name == "model" else folder):
        try:
            return float((read_result(place) or {})["test"]["accuracy"])
        except (TlxError, OSError, ValueError, KeyError, TypeError):
            continue
    return None
