"""A saved model, ready to be used: what it predicts for examples, and its features.

A model folder is all that this needs. Examples take the way that they took when the model was
evaluated: the same reading, the same encoding, the same preparation, the same forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from tlx import registry, returned
from tlx.backbones.shortened import shortened
from tlx.contracts.calls import called, calling
from tlx.contracts.extension import Extension
from tlx.contracts.field import Fields, Restores, Warp
from tlx.data.collate import Collate, collate_ports, place_example
from tlx.data.fields import each_value
from tlx.data.inputs import as_inputs, fit_backbone
from tlx.devices.compiled import compiled
from tlx.errors import DataError, TlxError, TrustError, WeightsError, did_you_mean, listed
from tlx.extension import OWN, begun, extension_of
from tlx.model import Model
from tlx.protocols import Averages, ForeignNames
from tlx.run_file import folder_code
from tlx.run_folder.model_folder import ABOUT, TENSORS, Description, describe, tensors
from tlx.trees import flat, part, unflat
from tlx.types import (
    Batch,
    Features,
    Forward,
    Precision,
    PyTree,
    Variables,
    unlabelled,
)  # fmt: skip
from tlx.weights.initial import with_part
from tlx.weights.matching import match
from tlx.weights.refusals import tensors_of

BATCH = 64
"""Examples that go through the network at a time; a lone one goes alone."""


def load(path: Path | str, *, precision: Precision = "float32", trust_code: bool = False) -> Saved:
    """The model that a run left, from the run's folder or its `model` folder. Its numbers are
    float32, and so is what it computes, unless another `precision` is asked for. With `trust_code`,
    files of Python that a folder names are run even if somebody else has written it.

    Raises WeightsError for a missing or damaged model and for tensors that are not those of the
    backbone and head, PluginError where one of these is not installed, TrustError for a folder
    that names code and is not trusted."""
    about = describe(path)
    folder_code.refuse(about.folder / ABOUT, about.plugins, trust_code)
    given = {"classes": len(about.classes)}
    backbone = fit_backbone(registry.build("backbones", *about.backbone), about.ports)
    head = about.head and registry.build("heads", *about.head, given=given)
    inputs, extension = as_inputs(about.ports), _extension(about)
    model = Model(backbone, head, inputs, precision=precision, extension=extension)
    try:
        batch = model.example()
        if about.stages is not None:
            body = shortened(backbone, about.stages, model.abstract_x())
            model = replace(model, backbone=body)
        like = jax.eval_shape(partial(_begun, model), jax.random.key(0), batch)
    except TlxError:
        raise
    except Exception as error:  # options of the right types can still mean nothing
        raise WeightsError(
            f"The network that {about.folder / ABOUT} describes cannot be built: {error}."
        ) from error
    found, file = tensors(about.folder), about.folder / TENSORS
    if about.base is None:
        own = _filled(like, found, file)
        return Saved(model, own, about.classes, about.fields, about.targets)
    strategy = registry.build("strategies", *about.base.strategy)
    factors: dict[str, Any] = {}
    if model.extension is None:  # else the leaves are the model's own
        factors = {path: jnp.asarray(found.pop(path)) for path in list(found) if _of_strategy(path)}
    variables = _filled(like, {**_base(about, model, like, trust_code), **found}, file)
    own = _own(strategy, model, batch, factors, file) if factors else {}
    with called(strategy, "strategy", "effective"):
        effective = strategy.effective({"strategy": own, **variables.params})
    params = {part: effective[part] for part in variables.params}
    numbers = Variables(params, variables.state)
    return Saved(model, numbers, about.classes, about.fields, about.targets)


class Encoded(NamedTuple):
    """An example: entry -> arrays that the network is given, and what was done to the plane of its
    image, where something predicted lies on it."""

    inputs: Mapping[str, Any]
    warp: Warp | None = None


@final
@dataclass(frozen=True, eq=False)
class Saved:
    """A model ready to be used: values go in as they are, and are read and encoded as they were
    when the model was evaluated. `fields` are those that its ports are bound to, `targets` those
    whose predictions go back to the plane of an example's image."""

    model: Model
    variables: Variables
    classes: tuple[str, ...]
    fields: Fields
    targets: Fields = field(default_factory=dict)

    def predict(self, values: Any) -> list[dict[str, Any]]:
        """What the head says of each example; where classes have names, `class` is one and
        `labels` are those that apply. A mask and boxes are in the pixels of the image as it came.

        `values`: of one field a value, or several in a list or whatever else its kind takes (of
        images the names of files, bytes, open files, PIL images, arrays (H,W,3) or (N,H,W,3)); of
        several fields a mapping of these by name. Raises DataError for what cannot be read."""
        return list(self.predictions(values))

    def predictions(self, values: Any) -> Iterator[dict[str, Any]]:
        """As `predict`, one by one: only a batch of examples is in memory at a time."""
        if self.model.head is None:
            raise WeightsError("This model has no head, so it predicts nothing; use features().")
        yield from self.answer(self._encoded(values))

    def answer(self, encoded: Iterator[Encoded]) -> Iterator[dict[str, Any]]:
        """As `predictions`, of examples that are encoded already (`encode`)."""
        for answer, warp in self._run(self._predict, encoded):
            back = self._restored(answer, warp)
            yield {name: self._said(name, value) for name, value in back.items()}

    def _restored(self, answer: dict[str, Any], warp: Warp | None) -> dict[str, Any]:
        """What was predicted on the plane of an image, on that of the image as it came."""
        for target in self.targets.values():
            if warp is not None and isinstance(target, Restores) and target.kind in answer:
                with called(target, "field", "restore"):
                    answer = {**answer, target.kind: target.restore(answer[target.kind], warp)}
        return answer

    def features(self, values: Any) -> dict[str, np.ndarray]:
        """Every feature of the backbone by name, (N,...); `values` as for `predict`."""
        each = [found for found, _ in self._run(self._features, self._encoded(values))]
        return {name: np.stack([features[name] for features in each]) for name in each[0]}

    @cached_property
    def _features(self) -> Callable[[Variables, Batch], Features]:
        return compiled(lambda variables, batch: self._passed(variables, batch).features)

    @cached_property
    def _predict(self) -> Callable[[Variables, Batch], Mapping[str, jax.Array]]:
        def predict(variables: Variables, batch: Batch) -> Mapping[str, jax.Array]:
            return self.model.predict(self._passed(variables, batch).outputs)

        return compiled(predict)

    def _passed(self, variables: Variables, batch: Batch) -> Forward:
        return self.model.apply(variables, batch, rng=jax.random.key(0), mode="eval")

    def _run(
        self, function: Callable[..., Mapping[str, Any]], encoded: Iterator[Encoded]
    ) -> Iterator[tuple[dict[str, Any], Warp | None]]:
        """What `function` says of each example, beside its warp. In batches of one size, so that it
        compiles once; the last is filled up with zeros."""
        first = list(islice(encoded, BATCH))
        if not first:
            raise DataError("There is nothing to look at: the list of values is empty.")
        size = 1 if len(first) == 1 else BATCH
        while first:
            given = [one.inputs for one in first]
            batch = unlabelled(jax.tree.map(partial(_filled_up, size), *given))
            answer = jax.device_get(function(self.variables, batch))
            for number, one in enumerate(first):
                yield {name: values[number] for name, values in answer.items()}, one.warp
            first = list(islice(encoded, size))

    def _encoded(self, values: Any) -> Iterator[Encoded]:
        if len(self.fields) == 1:
            ((name, field),) = self.fields.items()
            if isinstance(values, Mapping) and set(values) == {name}:
                values = values[name]
            for called_, value in each_value(field, values):
                yield self.encode({name: value}, called_)
            return
        if not isinstance(values, Mapping) or set(values) != set(self.fields):
            raise DataError(
                f"This model is given {listed(self.fields)}: hand over a mapping with a list of "
                f"values for each of them."
            )
        columns = [each_value(field, values[name]) for name, field in self.fields.items()]
        for row in zip_longest(*columns):
            if None in row:
                which = [list(self.fields)[place] for place, one in enumerate(row) if one is None]
                raise DataError(
                    f"There are fewer values of {listed(which)} than of the others: an example "
                    f"has one of each."
                )
            given = {n: value for n, (_, value) in zip(self.fields, row, strict=True)}
            yield self.encode(given, row[0][0])

    def encode(self, values: Mapping[str, Any], name: str = "The example") -> Encoded:
        """What the network is given of one example, whose `values` are read. Raises DataError,
        calling it `name`, for what is none."""
        found = {}
        for port in self.model.ports:
            with called(port.input, "input", "encode"):
                found[port.entry] = port.input.encode(*(values[f] for f in port.fields), name=name)
        warp = place_example(self.collate.inputs, values) if self.targets else None
        return Encoded(found, warp)

    @property
    def collate(self) -> Collate:
        """How examples become a batch, as when the model was evaluated."""
        return collate_ports(self.model.ports)

    def _said(self, name: str, value: Any) -> Any:
        """A head's number as a user wants it: classes by their names, a scalar as Python's."""
        if self.classes and name == "labels" and np.shape(value) == (len(self.classes),):
            return [label for label, there in zip(self.classes, value, strict=True) if there]
        if np.ndim(value):
            return value
        number = np.asarray(value).item()
        return self.classes[number] if self.classes and name == "class" else number


def _extension(about: Description) -> Extension | None:
    """The strategy that extends the model. WeightsError where it is none that does."""
    if about.extension is None:
        return None
    found = extension_of(registry.build("strategies", *about.extension))
    if found is None:
        raise WeightsError(
            f"{about.folder / ABOUT} says that the strategy {about.extension[0]!r} extends the "
            f"model, and it changes neither inputs nor features. The plugin may have changed since "
            f"the model was saved."
        )
    return found


def _begun(model: Model, rng: jax.Array, batch: Batch) -> Variables:
    """The leaves of a model, with those of the strategy that extends it."""
    leaves = model.init(rng, batch)
    if model.extension is None:
        return leaves
    whole = with_part(leaves, OWN, begun(model, rng, batch))
    if isinstance(model.extension, Averages):
        return Variables(whole.params, model.extension.begin(*whole))
    return whole


def _own(strategy: Any, model: Model, batch: Batch, found: Mapping[str, Any], file: Path) -> PyTree:
    """The strategy's own parameters, in the containers in which its `init` has them."""
    key, who = jax.random.key(0), f"`init` of the strategy {type(strategy).__name__}"

    def begin(batch: Batch) -> Variables:
        return returned.variables(strategy.init(key, model.bare, batch), who, strategy.init)

    with calling(who, strategy.init):
        try:
            like = jax.eval_shape(begin, batch)
        except jax.errors.JAXTypeError:  # it looks at values, of which only the shapes matter here
            like = begin(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch))
    return _filled(Variables({OWN: like.params}, {}), found, file).params[OWN]


def _of_strategy(path: str) -> bool:
    return part(path) == "strategy"


def _base(about: Description, model: Model, like: Variables, trust_code: bool) -> dict[str, Any]:
    """The leaves of the weights that a model is a change to. WeightsError where these are not
    there any more, or others."""
    assert about.base is not None
    name, options = about.base.weights
    hint = (
        f"{about.folder} holds only what was changed in the weights {name!r} {options or ''}. Put "
        f"that file back, or where it still is, write a whole model with 'tlx export'."
    )
    try:
        source = registry.build("weights", name, options, {folder_code.TRUSTING: trust_code})
        there = tensors_of(name, source)
    except TrustError:
        raise
    except TlxError as error:
        raise WeightsError(f"{error} {hint}") from error
    if there.sha256 != about.base.sha256:
        raise WeightsError(
            f"{there.origin} is another file than the one that was changed: its sha256 begins with "
            f"{there.sha256[:12]} instead of {about.base.sha256[:12]}. {hint}"
        )
    backbone = model.backbone
    dialects = backbone.dialects if isinstance(backbone, ForeignNames) else ()
    matched, report = match(there, like, dialects, about.base.prefix)
    leaves = flat(matched)
    return {leaf.path: np.asarray(leaves[leaf.path]) for leaf in report.loaded}


def _filled_up(size: int, *leaves: np.ndarray) -> np.ndarray:
    """(size,...), of the leaves of so many examples or fewer; bytes beside floats are floats."""
    if len({leaf.dtype for leaf in leaves}) > 1:
        leaves = tuple(x / np.float32(255) if x.dtype == np.uint8 else x for x in leaves)
    filled = np.zeros((size, *leaves[0].shape), leaves[0].dtype)
    filled[: len(leaves)] = np.stack(leaves)
    return filled


def _filled(like: Variables, found: Mapping[str, np.ndarray], file: Path) -> Variables:
    """`like` with every leaf from the file; anything missing, extra or different is an error."""
    wanted, leaves = flat(like), {}
    hint = "The plugin may have changed since the model was saved."
    for path, spec in wanted.items():
        if path not in found:
            raise WeightsError(
                f"{file} has no {path!r}, which the model needs.{did_you_mean(path, found)} {hint}"
            )
        key = jnp.issubdtype(spec.dtype, jax.dtypes.prng_key)
        leaf = jax.random.wrap_key_data(jnp.array(found[path])) if key else found[path]
        if (leaf.shape, leaf.dtype) != (spec.shape, spec.dtype):
            raise WeightsError(
                f"{path!r} is {leaf.shape} {leaf.dtype} in {file}, but {spec.shape} {spec.dtype} "
                f"in the model. {hint}"
            )
        leaves[path] = jnp.array(leaf)
    if extra := sorted(found.keys() - wanted.keys()):
        raise WeightsError(
            f"{file} holds {extra[0]!r}, for which the model has no place."
            f"{did_you_mean(extra[0], wanted)} {hint}"
        )
    return unflat(like, leaves)
