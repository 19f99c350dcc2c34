"""A bag of words is that of scikit-learn, learnt of the training texts alone."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from tlx_text import BagInput, Text
from tlx_text.bag_input import FIRST_WORD, PADDING, SEPARATOR, UNKNOWN
from tlx_text.words import shared_room

from tlx.contracts.input import FitsInput, HasAssets, Input, MergesInput
from tlx.errors import ConfigError, DataError

TEXTS = (
    "The plot is thin , the actors are not .",
    "It's a film -- a GOOD film -- about a cat.",
    "Don't see it: the cat dies",
    "naïve café, cafe\u0301",
    "",
)


def fit(one, *rows):
    rows = [(text,) if isinstance(text, str) else text for text in rows or TEXTS]
    return one.fitted([Text()], lambda: rows)


def words_of(one, text):
    names = ("<pad>", "<unknown>", "<separator>", *one.words)
    got = one.encode(text, name="It")
    return [names[number] for number in got["ids"][got["mask"]]]


def test_it_is_an_input_with_all_that_it_says():
    for contract in (Input, FitsInput, HasAssets, MergesInput):
        assert isinstance(BagInput(), contract)
    one = fit(BagInput())
    assert one == fit(BagInput())
    assert hash(one) == hash(fit(BagInput()))


def test_vocabulary_and_counts_are_those_of_scikit_learn():
    one = fit(BagInput())
    theirs = CountVectorizer(token_pattern=one.pattern, strip_accents=None)
    counts = theirs.fit_transform([text.replace("cafe\u0301", "café") for text in TEXTS]).toarray()
    assert set(one.words) == set(theirs.vocabulary_)
    for row, text in zip(counts, TEXTS, strict=True):
        ids = one.encode(text, name="It")
        ours = np.bincount(ids["ids"][ids["mask"]], minlength=one.rows)[FIRST_WORD:]
        order = [theirs.vocabulary_[word] for word in one.words]
        np.testing.assert_array_equal(ours, row[order])


def test_words_are_ordered_by_how_often_they_come_and_then_by_letters():
    assert fit(BagInput(), "b a", "c a b", "a d").words == ("a", "b", "c", "d")
    one, other = fit(BagInput()), fit(BagInput(), *TEXTS[::-1])
    assert one == other


def test_rare_and_too_many_words_are_unknown():
    assert fit(BagInput(min_count=2), "b a", "c a b", "a d").words == ("a", "b")
    one = fit(BagInput(max_words=1), "b a", "c a b", "a d")
    assert one.words == ("a",)
    assert words_of(one, "b a z")[0] == "<unknown>"
    np.testing.assert_array_equal(
        one.encode("b a z", name="It")["ids"], [UNKNOWN, FIRST_WORD, UNKNOWN]
    )


def test_case_and_pattern():
    assert words_of(fit(BagInput()), "A Cat") == ["a", "cat"]
    assert fit(BagInput(lower=False), "A a").words == ("A", "a")
    assert fit(BagInput(pattern="[a-z]"), "ab 1").words == ("a", "b")


def test_padding_and_cutting():
    one = fit(BagInput(length=4), "a b c")
    short, long = one.encode("b", name="It"), one.encode("a b c a b", name="It")
    np.testing.assert_array_equal(short["ids"], [FIRST_WORD + 1, PADDING, PADDING, PADDING])
    np.testing.assert_array_equal(short["mask"], [True, False, False, False])
    assert long["mask"].all()
    assert words_of(one, "a b c a b") == ["a", "b", "c", "a"]
    assert not one.encode("", name="It")["mask"].any()
    for arrays in (short, long):
        assert (arrays["ids"].dtype, arrays["mask"].dtype) == (np.int32, np.bool_)
        shapes = {name: (1, *leaf.shape) for name, leaf in arrays.items()}
        assert shapes == {name: leaf.shape for name, leaf in one.example().items()}


def test_the_length_is_a_percentile_of_the_training_texts():
    texts = [" ".join(["a"] * length) for length in range(1, 101)]
    assert fit(BagInput(), *texts).length == 100
    assert fit(BagInput(percentile=50.0), *texts).length == 51
    assert fit(BagInput(max_length=20), *texts).length == 20
    assert fit(BagInput(length=7), *texts).length == 7


def test_several_fields_with_a_separator_and_the_longest_cut_first():
    one = fit(BagInput(length=6), ("a b", "c"))
    got = one.encode("a b", "c", name="It")
    np.testing.assert_array_equal(got["ids"], [3, 4, SEPARATOR, 5, PADDING, PADDING])
    got = one.encode("a a a a a a", "c b", name="It")
    np.testing.assert_array_equal(got["ids"], [3, 3, 3, SEPARATOR, 5, 4])
    assert fit(BagInput(), ("a b", "c")).length == 4


def test_room_is_shared_as_one_by_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        lengths = rng.integers(0, 9, rng.integers(1, 5)).tolist()
        room = int(rng.integers(0, 20))
        wanted = sorted(lengths)
        while sum(wanted) > room:
            wanted[wanted.index(max(wanted))] -= 1
            wanted.sort()
        found = shared_room(lengths, room)
        assert sorted(found) == wanted
        assert all(part <= length for part, length in zip(found, lengths, strict=True))


def test_what_is_known_is_not_learnt_again():
    one = fit(BagInput(), "a b")
    assert fit(one, "c d e f") is one
    assert fit(BagInput(words=("x",)), "c d").words == ("x",)
    one.fitted([Text()], lambda: pytest.fail("The texts are read."))


def test_texts_without_words_are_refused():
    with pytest.raises(DataError, match="hold no word that is there 1 times or oftener"):
        fit(BagInput(), "...", "")
    with pytest.raises(DataError, match="5 times"):
        fit(BagInput(min_count=5), "a b")
    with pytest.raises(DataError, match="It is a int, and has to be a text"):
        fit(BagInput(), "a").encode(3, name="It")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_count": 0}, "min_count is 0"),
        ({"length": 5000}, "length is 5000, and has to be a whole number from 1 up to 4096"),
        ({"max_words": True}, "max_words is True"),
        ({"percentile": 0}, "percentile is 0"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": r"(\w)\w"}, "has a group"),
        ({"pattern": r"\w*"}, "words without a letter"),
        ({"words": ("a", "a")}, "all different"),
        ({"words": (1,)}, "all different"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(ValueError, match=said):
        BagInput(**options)


def test_of_the_weights_vocabulary_nothing_can_be_changed_but_the_length():
    one = fit(BagInput(), "a b")
    assert one.merged(BagInput(), {}) == one
    assert one.merged(BagInput(), {"length": 9}) == replace(one, length=9)
    with pytest.raises(ConfigError, match="the vocabulary is that of the weights"):
        one.merged(BagInput(), {"min_count": 3})
    with pytest.raises(ConfigError, match=r"weights.input.lengths: cannot be said.*'length'"):
        one.merged(BagInput(), {"lengths": 3})
    with pytest.raises(ConfigError, match="length is 0"):
        one.merged(BagInput(), {"length": 0})
    assert BagInput().merged(BagInput(), {"min_count": 3}) == BagInput(min_count=3)


def test_words_are_an_asset_that_comes_back():
    one = BagInput(words=("a", "größer", "two\nlines"), length=3)
    again = BagInput(length=3).with_assets(one.assets())
    assert again == one
    assert BagInput().assets() == {}
