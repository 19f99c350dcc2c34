"""What a plugin raises, or returns wrongly, is a sentence that names it, before the first step."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import registry
from tlx.assemble import assemble
from tlx.backbones.leaves import leaf_of
from tlx.config import parse
from tlx.contracts.calls import calling, where
from tlx.errors import ConfigError, ContractError, TlxError
from tlx.evaluate import reported
from tlx.types import Variables


def size(features):
    return jnp.mean(features["pooled"] ** 2)


def each(*, features):
    return jnp.mean(features["pooled"] ** 2, -1)


def one_long(*, features):
    return size(features)[None]


def nothing(*, features):
    size(features)


def two(*, features):
    return size(features), {}


def table(*, features):
    return {"size": size(features)}


def number(*, features):
    return 0.5


def of_numpy(*, features):
    return np.float32(0.5)


def constant(*, features):
    return jnp.float32(3)


def count(*, features):
    return jnp.sum(features["pooled"] > 0)


def right(*, outputs, batch):
    return jnp.mean(outputs.argmax(-1) == batch.targets["label"])


def truth(*, features):
    return size(features) > 0


def waves(*, features):
    return jnp.mean(jnp.fft.fft(features["pooled"]))


def branch(*, features):
    return size(features) if size(features) > 0 else -size(features)


def as_float(*, features):
    return float(size(features))


def as_item(*, features):
    return size(features).item()


def through_numpy(*, features):
    return jnp.asarray(np.mean(np.asarray(features["pooled"]))) + size(features)


def as_index(*, features):
    return size(features) * [1, 2, 3][features["pooled"].argmax()]


def broken(*, features):
    raise ValueError("mine is\nbroken")


def missing(*, features):
    return jnp.mean(features["pool"])


def leaves(*, features):
    raise SystemExit(3)


def misspelt(*, features):
    return jnp.maen(features["pooled"])


def shapes(*, features):
    return jnp.mean(features["pooled"] @ jnp.ones((3, 3)))


def stopped(*, features):
    return jax.lax.stop_gradient(size(features))


def rounded(*, features):
    return jnp.round(size(features))


def nil(*, features):
    return 0 * size(features)


def nil_array(*, features):
    return jnp.sum(jnp.zeros(features["pooled"].shape) * features["pooled"])


def shallow(*, features):
    return jnp.mean(features["stage1"] ** 2)


def sound(*, features):
    return size(features)


def refused(tiny, name, **changes):
    divergence = [{"name": f"{__file__}:{name}", "label": "mine", "weight": 0.1}]
    with pytest.raises(TlxError) as caught:
        assemble(parse(tiny(divergence=divergence, **changes)))
    said = str(caught.value)
    assert "'mine'" in said
    assert said.endswith("."), said
    return caught.value


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("each", r"a scalar, and it returns float32\[10\]. Return the mean"),
        ("one_long", r"it returns float32\[1\]"),
        ("nothing", "it returns nothing"),
        ("two", "it returns a tuple"),
        ("table", "it returns a dict"),
        ("number", "returns a float. That was computed outside of jax"),
        ("of_numpy", r"returns float32\[\]. That was computed outside of jax"),
        ("constant", "its gradient is zero, whatever the numbers are"),
        ("count", r"it returns int32\[\]. A count has no gradient"),
        ("truth", r"it returns bool\[\]. A count has no gradient"),
        ("waves", r"it returns complex64\[\]. Return its real part"),
        ("branch", "asks a traced array for its value"),
        ("as_float", "asks a traced array for its value"),
        ("as_item", "asks a traced array for its value"),
        ("through_numpy", "asks a traced array for its value"),
        ("as_index", "asks a traced array for its value"),
        ("broken", r"fails .*: ValueError: mine is broken\."),
        (
            "missing",
            r"reads features\['pool'\] .* Did you mean 'pooled'\? `features` has: .*stage1",
        ),
        ("leaves", r"ends the program \(SystemExit: 3\)"),
        ("misspelt", "AttributeError: module 'jax.numpy' has no attribute 'maen'"),
        ("shapes", "fails .*TypeError"),
        ("right", "its gradient is zero, whatever the numbers are"),
        ("stopped", "its gradient is zero"),
        ("rounded", "its gradient is zero"),
        ("nil", "its gradient is zero"),
        ("nil_array", "its gradient is zero"),
    ],
)
def test_a_divergence_that_returns_what_it_should_not(tiny, name, match):
    error = refused(tiny, name)
    assert isinstance(error, ContractError)
    first = globals()[name].__code__.co_firstlineno
    assert any(f"({__file__}, line {first + more})" in str(error) for more in range(4)), error
    with pytest.raises(ContractError, match=match):
        raise error


def test_a_divergence_of_what_no_phase_moves(tiny):
    """Its gradient is not zero at all, but it does not reach what moves."""
    kept = {"name": "finetune", "frozen": ["stage1"]}
    error = refused(tiny, "shallow", strategy=kept)
    assert isinstance(error, ConfigError)
    assert "'mine' would have no effect" in str(error)
    both = [{"name": f"{__file__}:{name}", "weight": 0.1} for name in ("shallow", "sound")]
    assert len(assemble(parse(tiny(divergence=both))).terms) == 2
    # Frozen in the first phase, and not in the second.
    later = {"name": "probe_then_finetune"}
    assert assemble(parse(tiny(strategy=later, divergence=both[:1]))).terms


def test_what_is_zero_where_a_run_starts_is_none_of_these(tiny):
    """L2-SP and its gradient are 0 at the source."""
    l2_sp = [{"name": "l2", "weight": 0.1}, {"name": f"{__file__}:sound", "weight": 0.1}]
    assert assemble(parse(tiny(divergence=l2_sp))).terms


class Beforehand:
    """Fails in what is called before the first step."""

    def __init__(self, found: str = "", fails: bool = False):
        self.found, self.fails = found, fails

    def answer(self):
        if self.fails:
            raise KeyError("nowhere")
        return {"none": None, "text": {"a": "text"}, "list": [], "rows": {"a": jnp.ones(3)}}[
            self.found
        ]


class Prepares(Beforehand):
    def prepare(self, *, model, variables, source, batches, rng):
        return self.answer()

    def __call__(self, *, features, prepared):
        return size(features)


class Learns(Beforehand):
    def init(self, *, model, source, batch, rng):
        return self.answer()

    def __call__(self, *, features, own):
        return size(features)


class Records(Beforehand):
    def record(self, *, features):
        return self.answer()

    def __call__(self, *, features, recorded):
        return size(features)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("Prepares", {"fails": True}, "`prepare` of the divergence 'mine' fails .*'nowhere'"),
        ("Prepares", {"found": "none"}, "`prepare` of .* returns nothing"),
        ("Prepares", {"found": "text"}, "`prepare` of .* arrays at 'a', and it returns a str"),
        ("Learns", {"fails": True}, "`init` of the divergence 'mine' fails"),
        ("Learns", {"found": "list"}, "`init` of .* has to return tlx.types.Variables"),
        ("Records", {"fails": True}, r"`record` of the .* 'mine' reads features\['nowhere'\]"),
        ("Records", {"found": "list"}, "`record` of .* a mapping of arrays by name"),
        (
            "Records",
            {"found": "rows"},
            r"each of the 10 examples at 'a', and it returns float32\[3\]",
        ),
    ],
)
def test_what_a_divergence_does_before_the_first_step(tiny, name, options, match):
    divergence = [{"name": f"{__file__}:{name}", "label": "mine", "weight": 0.1, **options}]
    with pytest.raises(ContractError, match=match) as caught:
        assemble(parse(tiny(divergence=divergence)))
    assert __file__ in str(caught.value)


def test_an_interrupt_and_a_sentence_go_through():
    with pytest.raises(KeyboardInterrupt), calling("It", size):
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match=r"^my own words$"), calling("It", size):
        raise ConfigError("my own words")
    with pytest.raises(MemoryError), calling("It", size):
        raise MemoryError


def test_where_a_plugin_is_defined():
    line = size.__code__.co_firstlineno
    assert where(size) == f" ({__file__}, line {line})"
    assert f"{Path(__file__).name}, line" in where(Prepares())
    assert where(len) == ""


@dataclass(frozen=True)
class Slipping:
    """A linear head, wrong in one `piece`."""

    piece: str
    classes: int = 3
    needs: ClassVar[tuple[str, ...]] = ("pooled",)
    selection: ClassVar[tuple[str, str]] = ("accuracy", "max")

    def init(self, rng, features):
        wide = features["poled" if self.piece == "init" else "pooled"].shape[-1]
        return Variables({"kernel": jnp.zeros((wide, self.classes))}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        found = features["pooled"] @ params["kernel"]
        return (found.sum(0) if self.piece == "apply" else found), state

    def loss(self, outputs, batch):
        found = jnp.square(outputs).sum(-1)
        return found.mean() if self.piece == "loss" else found

    def predict(self, outputs):
        return outputs if self.piece == "predict" else {"class": outputs.argmax(-1)}

    def measure(self, outputs, batch):
        if self.piece == "measure":
            raise ValueError("not measured")
        return {"n": batch.weight.sum()}

    def report(self, totals):
        return {} if self.piece == "report" else {"accuracy": float(totals["n"])}


@pytest.mark.parametrize(
    ("piece", "match"),
    [
        ("init", r"`init` of the head Slipping reads features\['poled'\] .* Did you mean 'pooled'"),
        (
            "apply",
            r"`apply` of the head Slipping, .* an entry for each of the .* returns float32\[3\]",
        ),
        (
            "loss",
            r"`loss` of the head Slipping .* each of the .* examples, and it returns float32\[\]",
        ),
        ("predict", r"`predict` of the head Slipping .* a mapping of arrays by name"),
        ("measure", r"`measure` of the head Slipping fails .*ValueError: not measured\."),
    ],
)
def test_a_head_that_does_not_what_it_should(tiny, piece, match):
    head = {"name": f"{__file__}:Slipping", "piece": piece}
    with pytest.raises(ContractError, match=match) as caught:
        assemble(parse(tiny(head=head)))
    assert __file__ in str(caught.value)


def test_a_report_without_the_metric_that_decides():
    assert reported(Slipping(""), {"n": 2.0}) == {"accuracy": 2.0}
    with pytest.raises(ContractError, match=r"has to give the metric 'accuracy'.* it gives none"):
        reported(Slipping("report"), {})
    with pytest.raises(ContractError, match=r"`report` of the head Slipping reads totals\['n'\]"):
        reported(Slipping(""), {"m": 2.0})


@dataclass(frozen=True)
class Change:
    """An augmentation, wrong in one way."""

    way: str

    def __call__(self, rng, image):
        if self.way == "branch":
            return image if image.mean() > 0 else -image
        if self.way == "nothing":
            return None
        return image.mean(-1) if self.way == "grey" else (image * 255).astype(jnp.uint8)


@pytest.mark.parametrize(
    ("way", "match"),
    [
        ("branch", "The augmentation Change asks a traced array for its value"),
        ("nothing", "The augmentation Change .* floats like"),
        (
            "grey",
            r"like those that it was given, float32\[8,8,3\], and it returns float32\[8,8\]",
        ),
        ("bytes", r"and it returns uint8\[8,8,3\]"),
    ],
)
def test_an_augmentation_that_does_not_what_it_should(tiny, way, match):
    change = {"name": f"{__file__}:Change", "way": way}
    with pytest.raises(ContractError, match=match) as caught:
        assemble(parse(tiny(augmentation=[change])))
    assert __file__ in str(caught.value)


class Doubtful:
    """A head whose property fails; with `leaf`, a backbone's answer of the wrong kind."""

    needs = ()
    init = apply = loss = predict = measure = report = None

    @property
    def selection(self):
        return {}["metric"]

    def leaf(self, path):
        return ("stage1", "kernel")


def test_what_a_plugin_says_of_itself_fails_where_it_is_made():
    with pytest.raises(ContractError, match=r"`selection` of the head .*KeyError: 'metric'"):
        registry.build("heads", f"{__file__}:Doubtful")


def test_what_a_backbone_says_of_a_leaf_is_held_against_its_contract():
    with pytest.raises(ContractError, match=r"`leaf` of the backbone for 'a/b'.*LeafInfo"):
        leaf_of(Doubtful(), "a/b")
