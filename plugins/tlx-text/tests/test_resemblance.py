"""Copies of texts are found as all pairs compared one by one find them."""

from time import perf_counter

import numpy as np
from tlx_text.resemblance import ALIKE, fingerprint, nearly_same

TEXT = (
    "The plot of this film is thin, but its actors carry it with charm and it never once loses the "
    "thread that it began with."
)


def near(one, other):
    return bool(nearly_same([fingerprint(one)], [fingerprint(other)]))


def same(one, other):
    return fingerprint(one).digest == fingerprint(other).digest


def test_case_blanks_and_forms_of_characters_do_not_matter():
    for other in (TEXT.upper(), TEXT.replace(" ", " \n "), f"  {TEXT}", TEXT.replace("f", "ｆ")):
        assert same(TEXT, other)
    assert not same(TEXT, TEXT.replace("thin", "thick"))
    assert not same("a b", "ab")


def test_what_is_nearly_the_same():
    assert near(TEXT, TEXT.replace(",", " -"))  # punctuation alone
    assert near(TEXT, TEXT.replace("charm and ", "charm, "))  # a word left out
    assert not near(TEXT, TEXT.replace("film", "play").replace("actors", "songs"))
    assert not near(TEXT, " ".join(reversed(TEXT.split())))  # the same bag of words
    assert not near("good film", "bad film")
    assert near("Good film!", "good - film")


def test_of_several_the_nearest_is_named():
    others = [TEXT.replace("charm and ", "charm, "), TEXT.replace(",", ";"), "another"]
    found = nearly_same(list(map(fingerprint, others)), [fingerprint("no"), fingerprint(TEXT)])
    assert found == [(1, 1)]


def test_a_text_without_words_shows_nothing():
    assert [fingerprint(text).flat for text in ("", " \n", "...?!", "a")] == [1, 1, 1, 0]
    assert not near("...", "???")
    assert nearly_same([], [fingerprint("a")]) == nearly_same([fingerprint("a")], []) == []


def test_it_finds_what_all_pairs_find():
    """Runs of three words as sets, by hand."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(12)])
    base = [list(rng.choice(words, rng.integers(1, 14))) for _ in range(60)]

    def changed(text):
        text = list(text)
        text[rng.integers(len(text))] = str(rng.choice(words))
        return text

    other = [changed(text) if rng.random() < 0.7 else text for text in base]

    def runs(text):
        return {tuple(text[i : i + 3]) for i in range(max(1, len(text) - 2))}

    def share(one, two):
        one, two = runs(one), runs(two)
        return len(one & two) / len(one | two)

    found = dict(
        (place, number)
        for number, place in nearly_same(
            [fingerprint(" ".join(text)) for text in base],
            [fingerprint(" ".join(text)) for text in other],
        )
    )
    best = {place: max(share(one, text) for one in base) for place, text in enumerate(other)}
    assert found.keys() == {place for place, value in best.items() if value >= ALIKE}
    assert 10 < len(found) < 60
    assert all(share(base[number], other[place]) == best[place] for place, number in found.items())


def test_a_phrase_of_all_costs_nothing():
    """Ten thousand texts that begin alike are not compared pair by pair."""
    every = [fingerprint(f"dear sir or madam {n} {n * n} {n + 7} {n * 3}") for n in range(10_000)]
    begun = perf_counter()
    assert nearly_same(every, every[:50]) == [(place, place) for place in range(50)]
    assert nearly_same(every, every) == [(place, place) for place in range(10_000)]
    assert perf_counter() - begun < 30  # all pairs take minutes
