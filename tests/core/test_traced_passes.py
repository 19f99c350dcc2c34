"""What a strategy feeds is traced when a run is assembled: what is silently wrong is refused."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest

from tlx.assemble import assemble
from tlx.config import parse
from tlx.errors import ContractError
from tlx.protocols import Phase
from tlx.types import Forward, Variables


@dataclass(frozen=True)
class Own:
    """A strategy with a forward of its own, `way`, that may freeze the backbone."""

    way: str = "plain"
    frozen: bool = False
    unused: bool = False

    def init(self, rng, model, batch):
        own = {"shift": jnp.zeros(3)} | ({"unused": jnp.ones(2)} if self.unused else {})
        return Variables(own, {})

    def phases(self, model, steps):
        def group(path):
            part = path.split("/")[0]
            return "frozen" if self.frozen and part == "backbone" else part

        norm = "frozen" if self.frozen else "train"
        return (Phase(name="own", steps=steps, group=group, forward=self.forward, norm=norm),)

    def forward(self, model, variables, batch, constants, *, rng, mode, progress):
        found = model.apply(variables, batch, rng=rng, mode=mode)
        shift = variables.params["strategy"]["shift"]
        return WAYS[self.way](found, model, variables, batch, shift, mode)


def in_loss(found, model, variables, batch, shift, mode):
    return found._replace(loss=found.loss + jnp.sum((shift - 1) ** 2))


def more_in_loss(found, model, variables, batch, shift, mode):
    """A further loss on whatever features there are: fewer where they come from a cache."""
    more = sum(jnp.mean(feature**2) for feature in found.features.values())
    return in_loss(found, model, variables, batch, shift, mode)._replace(
        loss=found.loss + more + jnp.sum((shift - 1) ** 2)
    )


def more_in_outputs(found, model, variables, batch, shift, mode):
    more = found.features["stage1"].mean((1, 2, 3))[:, None]
    outputs = found.outputs + more
    found = found._replace(outputs=outputs, loss=model.head.loss(outputs, batch))
    return in_loss(found, model, variables, batch, shift, mode)


def own_in_outputs(found, model, variables, batch, shift, mode):
    outputs = found.outputs + shift
    return found._replace(outputs=outputs, loss=model.head.loss(outputs, batch))


def stopped(found, model, variables, batch, shift, mode):
    shift = jax.lax.stop_gradient(shift)
    return in_loss(found, model, variables, batch, shift, mode)


def headless(found, model, variables, batch, shift, mode):
    """The head is measured, and learns nothing."""
    return found._replace(loss=jnp.mean(found.features["pooled"] ** 2, -1) + jnp.sum(shift**2))


def mean_loss(found, model, variables, batch, shift, mode):
    return found._replace(loss=found.loss.mean() + shift.sum())


def of_a_tuple(found, model, variables, batch, shift, mode):
    return found.loss, found.state


def less_state(found, model, variables, batch, shift, mode):
    return found._replace(state={"head": found.state["head"]}, loss=found.loss + shift.sum())


def integer_loss(found, model, variables, batch, shift, mode):
    return found._replace(loss=jnp.argmax(found.outputs, -1))


def fails(found, model, variables, batch, shift, mode):
    return found._replace(loss=found.loss + variables.params["strategy"]["shifts"].sum())


def fails_in_eval(found, model, variables, batch, shift, mode):
    if mode == "eval":
        raise RuntimeError("only in training")
    return found


WAYS = {
    way.__name__: way
    for way in (
        in_loss, more_in_loss, more_in_outputs, own_in_outputs, stopped, headless, mean_loss,
        of_a_tuple, less_state, integer_loss, fails, fails_in_eval,
    )
}  # fmt: skip


def made(tiny, way, changes=None, **options):
    strategy = {"name": f"{__file__}:Own", "way": way, **options}
    return assemble(parse(tiny(strategy=strategy, **(changes or {}))))


def test_what_is_sound_goes_through(tiny):
    """Whatever features the loss reads, where none come from a cache."""
    assert made(tiny, "in_loss", frozen=True).phases
    assert made(tiny, "more_in_loss").phases
    assert made(tiny, "more_in_loss", {"cache_gb": 0.0}, frozen=True).phases


@pytest.mark.parametrize(
    ("way", "options", "match"),
    [
        ("more_in_loss", {"frozen": True}, "reads the features stage1, stage2, .* reads = "),
        ("more_in_outputs", {}, "outputs with the features stage1, and the head reads pooled al"),
        ("more_in_outputs", {"frozen": True}, "outputs with the features stage1"),
        ("own_in_outputs", {}, "outputs with strategy/shift, which would be tested and is no p"),
        ("stopped", {}, "would train strategy/shift, which has a gradient in no phase"),
        ("in_loss", {"unused": True}, "would train strategy/unused, which has a gradient in no"),
        ("headless", {}, "would train head/.*, which has a gradient in no phase"),
        ("mean_loss", {}, r"one floating number for each of the 10 examples, .* float32\[\]"),
        ("integer_loss", {}, r"and it returns int32\[10\]"),
        ("of_a_tuple", {}, "has to return tlx.types.Forward, and it returns a tuple"),
        ("less_state", {}, "has to keep the form of what it was given: 'backbone/"),
        ("fails", {}, r"fails .*KeyError: 'shifts'"),
        ("fails_in_eval", {}, "fails .*RuntimeError: only in training"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_the_first_step(tiny, way, options, match):
    with pytest.raises(ContractError, match=match) as caught:
        made(tiny, way, **options)
    assert __file__ in str(caught.value)
    assert f"{__file__}:Own" in str(caught.value)
    assert str(caught.value).endswith(".")


@dataclass(frozen=True)
class Pieces:
    """Fails, or returns what it should not, in `piece`."""

    piece: str

    def init(self, rng, model, batch):
        if self.piece == "init":
            return {"w": jnp.ones(1)}
        return Variables({}, {})

    def phases(self, model, steps):
        if self.piece == "phases":
            raise IndexError("no stage")
        if self.piece == "no phases":
            return None
        if self.piece == "group":
            return (Phase(name="one", steps=steps, group=lambda path: None, forward=plain),)
        return (Phase(name="one", steps=steps, group=lambda path: path[:4], forward=plain),)

    def effective(self, params):
        if self.piece == "effective":
            return {"backbone": params["backbone"]}
        return params

    def finish(self, *, model, start, variables, batches, score):
        raise ZeroDivisionError("nothing to average")


def plain(model, variables, batch, constants, *, rng, mode, progress) -> Forward:
    return model.apply(variables, batch, rng=rng, mode=mode)


@pytest.mark.parametrize(
    ("piece", "match"),
    [
        ("init", "`init` of the strategy .* to return tlx.types.Variables.* a dict"),
        ("phases", "`phases` of the strategy .* fails .*IndexError: no stage"),
        ("no phases", "`phases` of the strategy .* has to return phases"),
        ("group", "the group of .* is a name, and it is None"),
        ("effective", "`effective` of the strategy .* has to keep the form"),
    ],
)
def test_the_pieces_of_a_strategy(tiny, piece, match):
    strategy = {"name": f"{__file__}:Pieces", "piece": piece}
    with pytest.raises(ContractError, match=match) as caught:
        assemble(parse(tiny(strategy=strategy)))
    assert __file__ in str(caught.value)
