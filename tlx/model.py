"""Model = backbone + head, with the preprocessing that its weights want.

A model is pure configuration: its numbers travel beside it as `Variables`. Batches hold raw
inputs; each model prepares them in its own way (`tlx.contracts.input`), so that a source with
another preprocessing sees what it was trained on. Leading stages of the backbone may be declared
frozen: they run in mode 'eval' and outside of differentiation, and a batch may bring what they give
instead.
A strategy may extend it (`tlx.contracts.extension`): what the backbone gets, or what it gives.
The body may compute in bfloat16 (`tlx.devices.precision`); the head is given float32 in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from tlx import extension as hooks
from tlx import returned
from tlx.contracts.calls import called, has_returned
from tlx.contracts.extension import ChangesInputs, Extension
from tlx.contracts.input import Input, Ports, ports_of
from tlx.data import mixing
from tlx.devices.precision import lowered, raised
from tlx.devices.rematerialised import in_one_piece, rematerialised
from tlx.errors import ContractError
from tlx.protocols import Backbone, Head, Maskable, Staged
from tlx.trees import Abstract, abstract
from tlx.types import (
    Batch,
    Features,
    Forward,
    FrozenFeatures,
    Mode,
    NormPolicy,
    Params,
    Precision,
    PyTree,
    State,
    Variables,
)

MOVING: Mapping[NormPolicy, Mode] = {
    "train": "train",
    "frozen": "tune",
    "frozen_affine": "tune",
    "recompute": "train",
    "stochastic": "stochastic",
}
"""The mode in which what is not frozen trains."""


FEATURE, MASKED = "tlx/feature/", "tlx/masked/"
"""How the names begin that features have in a traced program, so that it can be seen which of them
somebody reads (`tlx.planning.reading`)."""


@final
@dataclass(frozen=True)
class Model:
    """A backbone, an optional head, and how examples reach them.

    `inputs` is the input of the one port of its backbone, or all its ports.

    `frozen` counts the leading stages of a `Staged` backbone that neither move nor update their
    statistics (1 freezes the whole of any other backbone). `norm` is the batch-norm policy of the
    rest while training. In `precision` the backbone computes, on float32 parameters and state to
    float32 features and state. `remat` has it compute activations again for the backward pass
    (`tlx.devices.rematerialised`). `whose` sets its features apart in a traced program.
    `extension` is the strategy whose hooks belong to the model; its leaves are `strategy`."""

    backbone: Backbone
    head: Head | None
    inputs: Input | Ports
    frozen: int = 0
    norm: NormPolicy = "train"
    precision: Precision = "float32"
    remat: bool = False
    whose: str = ""
    extension: Extension | None = None

    def __post_init__(self) -> None:
        if isinstance(self.inputs, Mapping):
            object.__setattr__(self, "inputs", ports_of(self.inputs))

    @property
    def bare(self) -> Model:
        """The same model without the hooks of a strategy."""
        return self if self.extension is None else replace(self, extension=None)

    @property
    def caches(self) -> bool:
        """Whether its frozen stages give the same of an example whatever has been learnt."""
        return self.frozen > 0 and not isinstance(self.extension, ChangesInputs)

    @property
    def ports(self) -> Ports:
        """How the values of each port reach the backbone, and where in a batch they are."""
        return self.inputs if isinstance(self.inputs, tuple) else ports_of(self.inputs)

    @property
    def kinds(self) -> dict[str, str]:
        """Entry of a batch -> the kind of field that it holds."""
        return {port.entry: port.input.kind for port in self.ports}

    @property
    def depth(self) -> int:
        """How many stages there are to freeze."""
        return len(self.backbone.stages) if isinstance(self.backbone, Staged) else 1

    def init(self, rng: Array, batch: Batch) -> Variables:
        """Fresh variables for examples shaped like the batch's."""
        for_backbone, for_head = jax.random.split(rng)
        x = self.preprocess(batch)
        with self._backbone("init"):
            body = self.backbone.init(for_backbone, x)
        returned.variables(body, "`init` of the backbone", self.backbone.init)
        params, state = {"backbone": body.params}, {"backbone": body.state}
        if self.head is not None:
            with self._backbone("apply"):
                features, _ = self.backbone.apply(
                    body.params, body.state, x, rng=for_backbone, mode="eval"
                )
            features = hooks.begun_features(self, rng, batch, features, x)
            with called(self.head, "head", "init", {"features": features}):
                top = self.head.init(for_head, features)
            returned.variables(top, "`init` of the head", self.head.init)
            params["head"], state["head"] = top.params, top.state
        return Variables(params, state)

    def features(
        self, variables: Variables, batch: Batch, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """Features of a batch, and the backbone's state after the pass (that of an extension is in
        `features_and_state`); the batch's `frozen` saves running the frozen stages."""
        features, state = self.features_and_state(variables, batch, rng=rng, mode=mode)
        return features, state["backbone"]

    def features_and_state(
        self, variables: Variables, batch: Batch, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """As `features`, with the whole state after the pass."""
        if self.extension is not None:
            return hooks.extended_features(self, variables, batch, rng=rng, mode=mode)
        features, body = self.backbone_features(variables, batch, rng=rng, mode=mode)
        return features, {**variables.state, "backbone": body}

    def backbone_features(
        self, variables: Variables, batch: Batch, x: PyTree = None, *, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """What the backbone alone gives, and its state, of a batch or of `x`, which a hook has made
        of it: frozen stages are differentiated through then."""
        own, stats = self._body(variables)
        moving: Mode = MOVING[self.norm] if mode == "train" else mode
        known = batch.frozen if x is None else None
        if self.frozen == 0 or (mode == "eval" and known is None):
            given = self._x(batch) if x is None else lowered(x, self.precision)
            features, stats = self._run(own, stats, given, start=0, rng=rng, mode=moving)
            return self._marked(features, FEATURE), stats
        if x is None:
            below = self.frozen_features(variables, batch, rng=rng) if known is None else known
            carry, features = jax.lax.stop_gradient((below.carry, below.features))
        else:
            still = jax.lax.stop_gradient(own)
            carry, features = self._frozen(still, stats, lowered(x, self.precision), rng)
        if self.frozen < self.depth:
            upper, stats = self._run(own, stats, carry, start=self.frozen, rng=rng, mode=moving)
            features = {**features, **upper}
        return self._marked(features, FEATURE), stats

    def _run(
        self, params: Params, state: State, carry: PyTree, *, start: int, rng: Array, mode: Mode
    ) -> tuple[Features, State]:
        """The stages from `start` on, of parameters and a carry that the body computes on."""
        backbone = self.backbone
        with self._backbone("apply"):
            if self.remat and mode != "eval":
                found = rematerialised(
                    backbone, params, state, carry, start=start, rng=rng, mode=mode
                )
            elif start == 0:
                found = backbone.apply(params, state, carry, rng=rng, mode=mode)
            else:
                assert isinstance(backbone, Staged)
                _, *found = backbone.apply_stages(
                    params, state, carry, start=start, stop=self.depth, rng=rng, mode=mode
                )
            features, state = found
        return raised(features, self.precision), state

    def _backbone(self, member: str) -> AbstractContextManager[None]:
        """What goes wrong inside is a sentence about the backbone."""
        return called(self.backbone, "backbone", member)

    def _body(self, variables: Variables) -> tuple[Params, State]:
        """Parameters of the backbone as it computes on them, and its state."""
        params = lowered(variables.params["backbone"], self.precision)
        return params, variables.state["backbone"]

    def _x(self, batch: Batch) -> PyTree:
        """The inputs of a batch as the body computes on them."""
        return lowered(self.preprocess(batch), self.precision)

    def preprocess(self, batch: Batch) -> PyTree:
        """The inputs of a batch as the network's weights want them: the values of its one port, or
        those of several by port."""
        found = {}
        for port in self.ports:
            with called(port.input, "input", "prepare"):
                found[port.name] = port.input.prepare(batch.inputs[port.entry])
        return next(iter(found.values())) if len(found) == 1 else found

    def example(self) -> Batch:
        """An abstract batch of one example, as the host encodes it."""
        index, weight = jax.ShapeDtypeStruct((1,), np.int32), jax.ShapeDtypeStruct((1,), np.float32)
        return Batch({port.entry: port.input.example() for port in self.ports}, {}, index, weight)

    def abstract_x(self) -> Abstract:
        """The shapes of what the backbone is given of one example."""
        return abstract(jax.eval_shape(self.preprocess, self.example()))

    @property
    def cell(self) -> int | None:
        """Side of a mask's cell in pixels of the network's input; None where the backbone cannot be
        masked layer by layer."""
        return self.backbone.cell if isinstance(self.backbone, Maskable) else None

    def visible(
        self,
        variables: Variables,
        batch: Batch,
        visible: Array,
        *,
        count: int,
        rng: Array,
        mode: Mode,
    ) -> tuple[Features, State]:
        """As `features`, of the visible cells of the batch's pictures alone; see `Maskable`.
        Nothing is frozen, and `cell` is not None."""
        assert isinstance(self.backbone, Maskable)
        if self.extension is not None:
            raise ContractError(
                f"The strategy {type(self.extension).__name__} changes the model, and a network "
                f"that sees cells of a picture alone knows nothing of that. Use `features`."
            )
        moving: Mode = MOVING[self.norm] if mode == "train" else mode
        own, stats = self._body(variables)
        run = partial(self.backbone.apply_visible, count=count, mode=moving)
        run = in_one_piece(run) if self.remat and mode != "eval" else run
        with self._backbone("apply_visible"):
            features, stats = run(own, stats, self._x(batch), visible, rng=rng)
        return self._marked(raised(features, self.precision), MASKED), stats

    def frozen_features(self, variables: Variables, batch: Batch, *, rng: Array) -> FrozenFeatures:
        """What the frozen stages give for a batch, in mode 'eval', whatever extends the model."""
        x = self._x(batch)
        return self._frozen(*self._body(variables), x, rng)

    def _frozen(self, params: Params, state: State, x: PyTree, rng: Array) -> FrozenFeatures:
        if self.frozen == self.depth:
            with self._backbone("apply"):
                features, _ = self.backbone.apply(params, state, x, rng=rng, mode="eval")
            return FrozenFeatures(None, raised(features, self.precision))
        assert isinstance(self.backbone, Staged)
        with self._backbone("apply_stages"):
            carry, features, _ = self.backbone.apply_stages(
                params, state, x, start=0, stop=self.frozen, rng=rng, mode="eval"
            )
        return FrozenFeatures(carry, raised(features, self.precision))

    def apply_head(
        self,
        variables: Variables,
        features: Features,
        *,
        inputs: Mapping[str, PyTree],
        rng: Array,
        mode: Mode,
    ) -> tuple[Any, State]:
        """The head's outputs for features of a batch's `inputs`, and the head's state; (None, {})
        without a head."""
        if self.head is None:
            return None, {}
        params, state = variables.params["head"], variables.state["head"]
        with called(self.head, "head", "apply", {"features": features, "params": params}):
            made = self.head.apply(params, state, features, inputs=inputs, rng=rng, mode=mode)
        fine = isinstance(made, tuple) and len(made) == 2
        who = f"`apply` of the head {type(self.head).__name__}"
        has_returned(who, self.head.apply, made, fine, "(outputs, state)")
        outputs, top = made
        count = next(iter(features.values())).shape[0]
        returned.leading(outputs, count, f"{who}, as its outputs,", self.head.apply)
        return outputs, top

    def predict(self, outputs: PyTree) -> Mapping[str, Array]:
        """What the head makes of its outputs; nothing without a head. Raises ContractError where it
        fails, or gives anything but arrays by name."""
        if self.head is None:
            return {}
        with called(self.head, "head", "predict"):
            found = self.head.predict(outputs)
        who = f"`predict` of the head {type(self.head).__name__}"
        has_returned(who, self.head.predict, found, isinstance(found, Mapping), "arrays by name")
        return found

    def apply(self, variables: Variables, batch: Batch, *, rng: Array, mode: Mode) -> Forward:
        """The supervised pass: a batch through backbone and head to a loss per example, which is
        zero without a head and for a batch without targets."""
        for_backbone, for_head = jax.random.split(rng)
        features, state = self.features_and_state(variables, batch, rng=for_backbone, mode=mode)
        outputs, top = self.apply_head(
            variables, features, inputs=batch.inputs, rng=for_head, mode=mode
        )
        if self.head is not None:
            state = {**state, "head": top}
        if self.head is None or not batch.targets:
            loss = jnp.zeros(len(batch.weight))
        else:
            loss = mixing.loss(self.head, outputs, batch)
        return Forward(loss, batch.inputs, features, outputs, state)

    def _marked(self, features: Features, kind: str) -> Features:
        """The same, under names that a traced program keeps."""
        return {
            name: checkpoint_name(feature, f"{kind}{self.whose}/{name}")
            for name, feature in features.items()
        }

    def with_frozen(self, frozen: int, norm: NormPolicy) -> Model:
        """The same model with another frozen prefix and batch-norm policy."""
        return replace(self, frozen=frozen, norm=norm)


def pooled(feature: Array) -> Array:
    """(B,D) of a vector, or of a map or tokens averaged over their positions."""
    return feature.mean(tuple(range(1, feature.ndim - 1)))
