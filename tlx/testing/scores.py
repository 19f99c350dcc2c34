"""What every score must do: give one finite number for a source, higher for a better one.

Only what holds for all of them: known words, the same number again, whatever the order of the
examples and the numbers of the classes; on data that leave nothing to compute a finite number or a
ScoreError. What a score means (its formula) is for its own tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.contracts.scoring import OF_EXAMPLES, asked
from tlx.errors import ScoreError
from tlx.protocols import Score
from tlx.testing.claims import NotApplicable, claim, claim_value, fail

PICTURES, WIDTH, CLASSES, OTHERS = 60, 12, 3, 5


@final
class Subject:
    """A score under test, with a value for each word that it asks for."""

    def __init__(self, make: Callable[[], Score], folder: Path):
        self.make = make

    @cached_property
    def thing(self) -> Score:
        """The score."""
        return self.make()

    @cached_property
    def words(self) -> dict[str, Any]:
        """The words that it asks for, of a source that knows something of the target."""
        return {word: value for word, value in everything().items() if word in asked(self.thing)}

    @cached_property
    def value(self) -> np.ndarray:
        """What it says of its words."""
        return np.asarray(self.thing(**self.words))

    def of(self, **changed: Any) -> float:
        """The score where some words are others; words that it does not ask for are left out."""
        words = {**self.words, **{k: v for k, v in changed.items() if k in self.words}}
        return float(np.mean(self.thing(**words)))


def everything() -> dict[str, Any]:
    """A value for every word: three classes whose features lie around a centre each, and whose
    answers by the source's head are alike."""
    rng = np.random.default_rng(0)
    labels = np.arange(PICTURES) % CLASSES
    centres, answers = rng.normal(size=(CLASSES, WIDTH)), rng.normal(size=(CLASSES, OTHERS))
    logits = 2 * answers[labels] + 0.5 * rng.normal(size=(PICTURES, OTHERS))
    raised = np.exp(logits)
    return {
        "features": 2 * centres[labels] + rng.normal(size=(PICTURES, WIDTH)),
        "labels": labels,
        "classes": CLASSES,
        "source_outputs": raised / raised.sum(1, keepdims=True),
        "task_embedding": rng.gamma(1.0, size=30),
        "source_task_embedding": rng.gamma(1.0, size=30),
        "parameters": 1000,
        "source_accuracy": 0.9,
        "seed": 0,
    }


def check_value(subject: Subject) -> None:
    """Equal configuration, equal score."""
    claim_value(subject.make, "A score")


def check_words(subject: Subject) -> None:
    """Every parameter is a word of `tlx.contracts.scoring`, without a default; it asks for
    something."""
    claim(asked(subject.thing), "A score asks for at least one word; this one would be a constant.")


def check_number(subject: Subject) -> None:
    """One finite number, or a finite term for each example."""
    value = subject.value
    claim(
        value.shape in ((), (PICTURES,)) and np.issubdtype(value.dtype, np.number),
        f"A score is one number, or a term for each of the {PICTURES} examples whose mean it is; "
        f"this one is {value.dtype}{value.shape}.",
    )
    claim(np.all(np.isfinite(value)), "The score of ordinary words is not finite.")


def check_deterministic(subject: Subject) -> None:
    """The same words give the same number."""
    again = np.asarray(subject.thing(**subject.words))
    claim(
        np.array_equal(subject.value, again, equal_nan=True),
        "The score of the same words is another number the second time. What it draws comes from "
        "`seed`.",
    )


def check_order(subject: Subject) -> None:
    """The order of the examples does not matter."""
    order = np.random.default_rng(1).permutation(PICTURES)
    moved = {w: subject.words[w][order] for w in OF_EXAMPLES if w in subject.words}
    if not moved:
        raise NotApplicable("It looks at no examples.")
    _same(subject.of(), subject.of(**moved), "examples in another order")
    if subject.value.shape == (PICTURES,):
        terms = np.asarray(subject.thing(**{**subject.words, **moved}))
        claim(
            np.allclose(terms, subject.value[order], rtol=1e-4, atol=1e-8),
            "Its terms do not follow the order of the examples.",
        )


def check_class_numbers(subject: Subject) -> None:
    """Which number a class has does not matter."""
    if "labels" not in subject.words:
        raise NotApplicable("It does not look at labels.")
    renamed = (subject.words["labels"] + 1) % CLASSES
    _same(subject.of(), subject.of(labels=renamed), "classes under other numbers")


def check_higher_is_better(subject: Subject) -> None:
    """A source that tells the classes apart scores higher than one that does not."""
    if "labels" not in subject.words:
        raise NotApplicable("It does not look at labels.")
    rng, labels = np.random.default_rng(2), subject.words["labels"]
    chance = max(subject.of(labels=rng.permutation(labels)) for _ in range(5))
    claim(
        subject.of() > chance,
        f"It gives {subject.of():.4g} where features and answers go with the classes, and up to "
        f"{chance:.4g} where labels are shuffled: higher has to be better.",
    )


def check_changes_nothing(subject: Subject) -> None:
    """The words are shared by all scores: nobody changes them."""
    before = {k: np.array(v) for k, v in subject.words.items()}
    subject.of()
    for word, value in subject.words.items():
        claim(np.array_equal(before[word], value), f"The score changed the word {word!r}.")


def check_edges(subject: Subject) -> None:
    """Where there is nothing to compute: a finite number, or a ScoreError that says why."""
    for name, changed in edges(everything()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                value = subject.of(**changed)
        except ScoreError:
            continue
        except Exception as error:
            fail(f"With {name} it raised {error!r}; it gives a finite number or a ScoreError.")
        claim(np.isfinite(value), f"With {name} it is {value}; say why there is none (ScoreError).")


def edges(words: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What real data bring sooner or later."""
    features, labels, outputs = words["features"], words["labels"], words["source_outputs"]
    unused = outputs * (np.arange(OTHERS) > 0)
    certain = np.eye(OTHERS)[outputs.argmax(1)]
    few = {word: words[word][:8] for word in OF_EXAMPLES}
    wide = np.random.default_rng(3).normal(size=(8, 40))
    first = {word: words[word][:1] for word in OF_EXAMPLES}
    lonely = np.where(np.arange(PICTURES) == 0, 0, 1 + labels % 2)
    yield "one class", {"labels": np.zeros_like(labels), "classes": 1}
    yield "a class without pictures", {"classes": CLASSES + 1}
    yield "a class of one picture", {"labels": lonely}
    yield "a class for each picture", {"labels": np.arange(PICTURES), "classes": PICTURES}
    yield "one picture", first
    yield "more features than pictures", {**few, "features": wide}
    yield "constant features", {"features": np.full_like(features, 0.5)}
    yield "features that are all 0", {"features": np.zeros_like(features)}
    yield "a feature that is always 0", {"features": features * (np.arange(WIDTH) > 0)}
    yield "two features that are the same", {"features": np.repeat(features[:, :1], 2, 1)}
    yield "every picture twice", {word: np.concatenate([words[word]] * 2) for word in OF_EXAMPLES}
    yield (
        "an unused source class",
        {"source_outputs": unused / unused.sum(1, keepdims=True)},
    )
    yield "a source that is certain", {"source_outputs": certain}
    yield "a source of one class", {"source_outputs": np.ones((PICTURES, 1))}
    zero = np.zeros_like(words["task_embedding"])
    yield "no information in the task", {"task_embedding": zero, "source_task_embedding": zero}


def _same(one: float, other: float, what: str) -> None:
    claim(
        np.isclose(one, other, rtol=1e-4, atol=1e-8),
        f"With {what} it is {other:.6g} instead of {one:.6g}.",
    )
