"""What cannot work, said before the first step.

Each function looks at one kind of parts that do not go together and raises a sentence; a run that
passes them all has everything that its divergences and phases ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import jax
import numpy as np

from tlx import trees
from tlx.contracts.calls import has_returned, has_said
from tlx.contracts.declared import fault_of_features, fault_of_selection
from tlx.contracts.input import Ports
from tlx.data.data_check import one_class
from tlx.data.domain import Domain
from tlx.data.shown import noun_of
from tlx.data.splits import Splits, are_classes, why_no_classes
from tlx.devices.precision import DTYPE, lowered
from tlx.errors import (
    ConfigError,
    DataError,
    WeightsError,
    did_you_mean,
    listed,
)
from tlx.extension import added_features
from tlx.model import MOVING, Model
from tlx.objective import Term, entries_of
from tlx.planning.plan import Planned
from tlx.protocols import (
    Augmentation,
    Mixes,
    SelfSupervised,
    Skips,
    Step,
    Strategy,
)
from tlx.run_file.run_config import OnNan, Part, RunConfig
from tlx.types import Batch, DataInfo, Features, Mode, Params, State, Variables
from tlx.weights import sources


def features(model: Model) -> None:
    """The head reads features that the backbone has, and both say so as their contracts do."""
    fault = fault_of_features(model.backbone.features)
    has_said("`features` of the backbone", model.backbone, fault)
    if model.head is None:
        return
    known = [spec.name for spec in model.backbone.features]
    if added := added_features(model.extension):
        who = f"`added_features` of the strategy {type(model.extension).__name__}"
        has_said(who, model.extension, fault_of_features(added))
        twice = sorted({spec.name for spec in added}.intersection(known))
        fault = f"{listed(twice)} is there already, in the backbone" if twice else ""
        has_said(who, model.extension, fault)
        known += [spec.name for spec in added]
    needs = model.head.needs
    fine = isinstance(needs, tuple | list)
    has_returned("`needs` of the head", model.head, needs, fine, "names of features")
    has_said("`selection` of the head", model.head, fault_of_selection(model.head.selection))
    for name in needs:
        if name not in known:
            raise ConfigError(
                f"The head reads the feature {name!r}, which the backbone does not have."
                f"{did_you_mean(name, known)} Features: {listed(known)}."
            )


def modes(model: Model, phases: tuple[Planned, ...]) -> None:
    """The backbone can tell apart the modes that the phases run it in."""
    known = model.backbone.modes
    fine = isinstance(known, Set | tuple | list)
    has_returned("`modes` of the backbone", model.backbone, known, fine, "a frozenset of modes")
    for planned in phases:
        if planned.model.frozen >= model.depth:
            continue
        mode = MOVING[planned.phase.norm]
        if mode not in known:
            raise ConfigError(
                f"Phase {planned.phase.name!r} with norm = {planned.phase.norm!r} runs the "
                f"backbone in mode {mode!r}, which it cannot tell apart. It has: "
                f"{listed(sorted(map(str, known)))}."
            )


def precision(phases: tuple[Planned, ...], variables: Variables, batch: Batch) -> None:
    """The backbone computes in the precision of the phases, and keeps its state in float32."""
    model = phases[0].model
    if model.precision == "float32":
        return
    mode: Mode = "train" if "train" in model.backbone.modes else "eval"

    def passed(params: Params, state: State, batch: Batch) -> tuple[Features, State]:
        own, x = lowered((params, model.preprocess(batch)), model.precision)
        return model.backbone.apply(own, state, x, rng=jax.random.key(0), mode=mode)

    asks = f"precision = {model.precision!r} is nothing that this backbone can do"
    instead = 'Leave precision at "float32".'
    stats = variables.state["backbone"]
    try:
        features, after = jax.eval_shape(passed, variables.params["backbone"], stats, batch)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{asks}: {str(error).splitlines()[0]} {instead}") from error
    for name in (spec.name for spec in model.backbone.features):
        if features[name].dtype != DTYPE[model.precision]:
            raise ConfigError(
                f"{asks}: it gives {name!r} in {features[name].dtype} all the same, because a "
                f"layer before it, often a norm, goes by the type of its own numbers. {instead}"
            )
    before = trees.flat(stats)
    for path, leaf in trees.flat(after).items():
        if leaf.dtype != before[path].dtype:
            raise ConfigError(f"{asks}: it leaves the state {path!r} in {leaf.dtype}. {instead}")


def skipping(step: Step, on_nan: OnNan) -> None:
    """The step can leave updates out where the run file asks for it."""
    if on_nan != "stop" and not (isinstance(step, Skips) and step.skips):
        raise ConfigError(
            f"[optimizer] on_nan = {on_nan!r} leaves out updates that are not finite, which the "
            f"step of this run cannot. Leave on_nan out, or take the step 'jit'."
        )


def sampling(labels: np.ndarray, info: DataInfo) -> None:
    """Classes that can be drawn equally often."""
    if not are_classes(labels, info.classes):
        raise ConfigError(
            f'[data] sampling = "balanced" needs one class per example; {why_no_classes(info)}. '
            f"Remove sampling."
        )


def classes(parts: Splits, info: DataInfo, head: Part | None) -> None:
    """For a head there are classes to tell apart, and examples to learn each of them from."""
    names, noun = info.classes, noun_of(info)
    if head is None or not are_classes(parts.train.labels, names):
        return
    if len(names) == 1:
        raise DataError(one_class(noun, names[0]))
    counts = np.bincount(parts.train.labels, minlength=len(names))
    if empty := [name for name, count in zip(names, counts, strict=True) if not count]:
        few = [*map(repr, empty[:5]), *([f"{len(empty) - 5:,} more"] if len(empty) > 5 else [])]
        lost = np.flatnonzero(counts == 0)
        elsewhere = sum(int(np.isin(p.labels, lost).sum()) for p in (parts.val, parts.test))
        why = (
            f"all there is of {'it' if len(empty) == 1 else 'them'} ({elsewhere:,}) is in "
            f"validation and test. Give each class more {noun}s, or a test and a validation split "
            f"of its own"
            if elsewhere
            else "there is none. Add some, or leave the class out"
        )
        one = "an example" if noun == "example" else f"a {noun}"
        raise DataError(f"Without {one} to train on, {listed(few)} cannot be learnt: {why}.")


MOVED_BY: Mapping[str, frozenset[str]] = {
    "params": frozenset({"backbone"}),
    "head_params": frozenset({"head"}),
    "features": frozenset({"backbone"}),
    "outputs": frozenset({"backbone", "head"}),
    "source_head_outputs": frozenset({"backbone"}),
    "domain_features": frozenset({"backbone"}),
    "domain_outputs": frozenset({"backbone", "head"}),
}
"""The parts of the model that change the value of a word."""


def idle(terms: tuple[Term, ...], phases: tuple[Planned, ...]) -> None:
    """Every divergence can move something in some phase."""
    moving: set[str] = set()
    for planned in phases:
        if planned.phase.solve is None:
            moves = jax.tree.leaves(planned.trainable.get("head", ()))
            moving |= {"head"} if any(moves) else set()
            moving |= {"backbone"} if planned.model.frozen < planned.model.depth else set()
    for term in terms:
        if not any(MOVED_BY.get(word, frozenset()) & moving for word in term.words):
            raise ConfigError(
                f"Divergence {term.name!r} would have no effect: it depends on the backbone, which "
                f"this strategy keeps as it is in every phase. Leave it out, or choose a strategy "
                f"that moves the backbone, such as 'finetune'."
            )


def solved(
    phases: tuple[Planned, ...],
    terms: tuple[Term, ...],
    augmentations: tuple[Augmentation | Mixes, ...],
    balanced: bool = False,
) -> None:
    """What a run asks for must have an effect somewhere."""
    if any(planned.phase.solve is None for planned in phases):
        return
    lost = [f"the divergence {term.name!r}" for term in terms]
    lost += ["the augmentations"] if augmentations else []
    lost += ['[data] sampling = "balanced"'] if balanced else []
    if lost:
        raise ConfigError(
            f"{lost[0][0].upper()}{lost[0][1:]} would have no effect: every phase of this strategy "
            f"solves for the head on all pictures as they are, without divergences. Set the "
            f'strategy\'s solver to "steps", or leave it out.'
        )


def mixing(
    config: RunConfig,
    strategy: Strategy,
    terms: tuple[Term, ...],
    augmentations: tuple[Augmentation | Mixes, ...],
    ports: Ports,
) -> None:
    """Pictures are mixed at most once, where both labels count, and nobody wants one of them."""
    named = [
        (part.name, change)
        for part, change in zip(config.augmentation, augmentations, strict=True)
        if isinstance(change, Mixes)
    ]
    if not (names := [name for name, _ in named]):
        return
    what = f"The augmentation {names[0]!r} makes one picture of two"
    if len(names) > 1:
        raise ConfigError(
            f"{what}, and {names[1]!r} would mix the result again; an example has room for two "
            f"labels. Keep one of them."
        )
    mixed = entries_of(named[0][1], ports)
    if kept := [port.name for port in ports if port.entry not in mixed]:
        raise ConfigError(
            f"{what} and mixes their labels, and what the network is given as {kept[0]!r} would "
            f"stay that of the first. Leave {names[0]!r} out."
        )
    if config.head is None or isinstance(strategy, SelfSupervised):
        raise ConfigError(
            f"{what} and mixes their labels, and the strategy {config.strategy.name!r} learns "
            f"without labels. Leave {names[0]!r} out."
        )
    if config.cache_views:
        raise ConfigError(
            f"{what}, which are drawn anew at every step; cache_views keeps what the network says "
            f"of each picture by itself. Leave out one of the two."
        )
    for term in terms:
        if single := sorted(term.words & {"batch", "recorded"}):
            raise ConfigError(
                f"{what}, and the divergence {term.name!r} asks for {single[0]!r}, which is about "
                f"the first of them alone. Leave out one of the two."
            )


def divergences(
    terms: tuple[Term, ...],
    words: Mapping[str, frozenset[str]],
    named: Mapping[str, sources.Source],
    model: Model,
    variables: Variables,
    info: DataInfo,
    domain: Domain | None,
) -> None:
    """What every divergence asks for is there, and comparable."""
    if len({term.name for term in terms}) < len(terms):
        raise ConfigError(
            f"Two divergences have one name among {listed(t.name for t in terms)}, of which the "
            f"strategy brings some along. Give yours a label."
        )
    for term in terms:
        for word in sorted(words[term.name]):
            if word in ("outputs", "domain_outputs") and not model.head:
                raise ConfigError(
                    f"Divergence {term.name!r} asks for {word!r}, and this run has no head. Use a "
                    f"divergence of features or parameters."
                )
            if word.startswith("domain_") and domain is None:
                raise ConfigError(
                    f"Divergence {term.name!r} asks for {word!r}, and this run has no second "
                    f"stream of pictures. Give it a [domain] table, written like [data]."
                )
            if not word.startswith("source_"):
                continue
            if term.source not in named:
                raise ConfigError(
                    f"Divergence {term.name!r} compares with the source model {term.source!r}, "
                    f"which this run does not have.{did_you_mean(term.source, named)} Sources: "
                    f"{listed(named)}. Give [weights], or a [sources.{term.source}] table."
                )
            source = named[term.source]
            if word == "source_params":
                _same_tree(term.name, variables, source.variables)
            if word in ("source_outputs", "source_head_outputs") and source.model.head is None:
                raise ConfigError(
                    f"Divergence {term.name!r} asks for {word!r}, but the weights of source "
                    f"{term.source!r} hold no head that fits. Use a divergence of features or "
                    f"parameters, or weights with a head of {len(info.classes)} classes."
                )
            theirs = source.classes or info.classes
            both = word == "source_outputs" and "outputs" in words[term.name]
            if both and theirs != info.classes:
                raise ConfigError(
                    f"Divergence {term.name!r} compares outputs over different classes: the "
                    f"source knows {listed(theirs[:4])}, ..., the data "
                    f"{listed(info.classes[:4])}, .... Use a divergence of features or parameters."
                )


def _same_tree(name: str, variables: Variables, source: Variables) -> None:
    here = {path: np.shape(leaf) for path, leaf in trees.flat(variables.params["backbone"]).items()}
    there = {path: np.shape(leaf) for path, leaf in trees.flat(source.params["backbone"]).items()}
    if here != there:
        odd = sorted(set(here.items()) ^ set(there.items()))[0][0]
        raise WeightsError(
            f"Divergence {name!r} compares parameters of two different networks; {odd!r} is not "
            f"the same in both. Use a source of the same backbone, or a divergence of features."
        )
