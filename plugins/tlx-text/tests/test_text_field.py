"""Texts are read from strings and bytes, one or several, and what is none is refused."""

import numpy as np
import pytest
from tlx_text import Text

from tlx.contracts.field import Field, Fingerprinted, ReadsMany, Sampled, Shown
from tlx.errors import DataError

FIELD = Text()


def test_it_is_a_field_with_all_that_it_says():
    for contract in (Field, Fingerprinted, ReadsMany, Sampled, Shown):
        assert isinstance(FIELD, contract)
    assert Text() == FIELD
    assert hash(Text()) == hash(FIELD)


@pytest.mark.parametrize(
    "raw",
    [
        "größer", "größer".encode(), bytearray("größer".encode()), memoryview("größer".encode()),
        b"\xef\xbb\xbf" + "größer".encode(), np.str_("größer"), np.bytes_("größer".encode()),
    ],
)  # fmt: skip
def test_a_text_in_every_form(raw):
    found = FIELD.read(raw, "It")
    assert found == FIELD.show(found) == "größer"
    assert type(found) is str
    assert list(FIELD.each(raw)) == [("The text", "größer")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (3, "It is a int, and has to be a text"),
        (None, "It is a NoneType"),
        (float("nan"), "It is a float"),
        (b"ok \xff\xfe", "It is no text in UTF-8: its byte 3 is 0xff"),
        ({"a": 1}, "It is a dict"),
    ],
)
def test_what_is_no_text_is_refused(raw, said):
    with pytest.raises(DataError, match=said):
        FIELD.read(raw, "It")


def test_several_texts():
    wanted = [("The text [0]", "one"), ("The text [1]", "two")]
    assert list(FIELD.each(["one", b"two"])) == wanted
    assert list(FIELD.each(np.array(["one", "two"]))) == wanted
    assert list(FIELD.each(one for one in ("one", "two"))) == wanted
    assert list(FIELD.each([])) == []
    with pytest.raises(DataError, match=r"The text \[1\] is a int"):
        list(FIELD.each(["one", 2]))
    with pytest.raises(DataError, match="The text is a int"):
        list(FIELD.each(3))


def test_a_text_is_no_target():
    with pytest.raises(DataError, match="cannot be compared with what a head says"):
        FIELD.encode("one", "It")


def test_samples_are_different_texts():
    found = FIELD.samples(np.random.default_rng(0), 20)
    assert len(set(found)) == 20
    assert found == FIELD.samples(np.random.default_rng(0), 20)
    digests = {FIELD.fingerprint(text).digest for text in found}
    assert len(digests) == 20
