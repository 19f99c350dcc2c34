"""Vectors and sequences: read in any form, encoded with a mask, standardised as scikit-learn does
it, by the training rows alone."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from tlx.contracts.input import Port
from tlx.data.fields import ClassLabel, each_value
from tlx.data.inputs import fit_inputs
from tlx.data.sequence_field import Sequence
from tlx.data.sequence_input import SequenceInput
from tlx.data.splits import Subset, cut
from tlx.data.vector_field import Vector
from tlx.data.vector_input import VectorInput
from tlx.errors import ConfigError, ContractError, DataError
from tlx.types import DataInfo

DNA = Sequence("ACGT")


def rows_of(values):
    return lambda: ((value,) for value in values)


def test_vectors_are_standardised_as_scikit_learn_does_it():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 4)) * [1, 1e-3, 1e4, 1] + [0, 5, 1e5, 3]
    rows[:, 3] = 7.0  # never varies
    one = VectorInput().fitted([Vector()], rows_of(rows))
    scaler = StandardScaler().fit(rows)
    np.testing.assert_allclose(one.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(one.std, scaler.scale_, rtol=1e-12)
    batch = np.stack([one.encode(row, name="A row") for row in rows])
    np.testing.assert_allclose(one.prepare(batch), scaler.transform(rows), atol=1e-3)
    assert one.fitted([Vector()], rows_of(rows + 1)) == one, "what is known stays"
    plain = VectorInput(standardise=False).fitted([Vector()], rows_of(rows))
    np.testing.assert_array_equal(plain.prepare(batch), batch)
    assert (plain.length, plain.mean) == (4, None)


def test_a_mean_far_from_zero_costs_no_precision():
    rows = 1e8 + np.arange(10.0)[:, None]
    one = VectorInput().fitted([Vector()], rows_of(rows))
    np.testing.assert_allclose(one.std, rows.std(0), rtol=1e-9)


def test_vectors_of_several_fields_are_joined():
    one = VectorInput(5)
    np.testing.assert_array_equal(one.encode([1, 2], [3, 4, 5], name="It"), [1, 2, 3, 4, 5])
    with pytest.raises(DataError, match="It has 2 numbers; the network takes 5"):
        one.encode([1, 2], name="It")
    with pytest.raises(ContractError, match="length 5 has 2 numbers as its mean"):
        VectorInput(5, mean=(0.0, 0.0))


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ([1, 2.5], 1), (np.ones(3), 1), (np.ones((2, 3)), 2), ([[1, 2], (3, 4)], 2),
        ([np.ones(3)], 1),
    ],
)  # fmt: skip
def test_vectors_in_whatever_form_a_caller_has_them(given, count):
    assert len(list(each_value(Vector(), given))) == count


@pytest.mark.parametrize(
    ("raw", "why"),
    [(["a"], "no vector"), ([[1]], r"shape \(1, 1\)"), ([1, float("nan")], "at place 1"),
     ([], r"shape \(0,\)"), ([1, 2, 3], "3 numbers and 2 names")],
)  # fmt: skip
def test_what_is_no_vector_is_refused(raw, why):
    with pytest.raises(DataError, match=f"The row .*{why}"):
        Vector(("a", "b")).read(raw, "The row")


def test_symbols_are_one_hot_with_a_mask():
    one = SequenceInput().fitted([Sequence()], rows_of(["GATT", "ACA"]))
    assert (one.alphabet, one.length) == ("ACGT", 4)
    batch = {k: v[None] for k, v in one.encode("TAN", name="It").items()}
    found = one.prepare(batch)
    np.testing.assert_array_equal(
        found["values"][0], [[0, 0, 0, 1], [1, 0, 0, 0], [0] * 4, [0] * 4]
    )
    np.testing.assert_array_equal(found["mask"][0], [True, True, True, False])
    long = one.encode("ACGTACGT", name="It")
    assert (long["values"].tolist(), long["mask"].all()) == ([0, 1, 2, 3], True)
    stated = SequenceInput("ACGTN", 9).fitted([Sequence()], rows_of(["NN"]))
    assert stated == SequenceInput("ACGTN", 9)
    assert SequenceInput().fitted([DNA], rows_of(["AA"])).alphabet == "ACGT", "its field says it"


def test_signals_are_standardised_over_their_steps_and_not_over_padding():
    rng = np.random.default_rng(0)
    signals = [rng.normal(3, 2, (n, 2)).astype(np.float32) for n in (5, 9, 2)]
    one = SequenceInput().fitted([Sequence()], rows_of(signals))
    scaler = StandardScaler().fit(np.concatenate(signals))
    np.testing.assert_allclose(one.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(one.std, scaler.scale_, rtol=1e-6)
    found = one.prepare({k: v[None] for k, v in one.encode(signals[0], name="It").items()})
    np.testing.assert_allclose(found["values"][0, :5], scaler.transform(signals[0]), atol=1e-5)
    assert not found["values"][0, 5:].any()
    assert found["mask"].sum() == 5


@pytest.mark.parametrize(
    ("given", "count"),
    [("ACGT", 1), (["ACGT", "A"], 2), ([0.1, 0.2], 1), (np.ones((7, 2)), 1), (np.ones(7), 1),
     (np.ones((3, 7, 2)), 3), ([np.ones(7), np.ones(5)], 2), (b"ACG", 1)],
)  # fmt: skip
def test_sequences_in_whatever_form_a_caller_has_them(given, count):
    assert len(list(each_value(Sequence(), given))) == count


@pytest.mark.parametrize(
    ("field", "raw", "why"),
    [
        (DNA, np.ones(3), "has to be a text of the symbols 'ACGT'"),
        (Sequence(channels=2), "ACGT", "has to be a signal"),
        (Sequence(channels=2), np.ones((4, 3)), "has 3 channels"),
        (Sequence(), "", "empty"),
        (Sequence(), [1.0, np.inf], "not finite"),
        (Sequence(), [["a"]], "neither a text nor a signal"),
    ],
)
def test_what_is_no_sequence_is_refused(field, raw, why):
    with pytest.raises(DataError, match=why):
        field.read(raw, "The sequence")


def test_a_network_of_the_other_form_is_refused():
    with pytest.raises(ConfigError, match="not both"):
        Sequence("ACGT", 2)
    with pytest.raises(DataError, match="takes signals of 2 channels"):
        SequenceInput(channels=2).fitted([Sequence()], rows_of(["ACGT"]))
    with pytest.raises(DataError, match="takes symbols of 'ACGT'"):
        SequenceInput("ACGT").fitted([Sequence()], rows_of([np.ones((3, 1))]))
    with pytest.raises(DataError, match="have 3 channels, and the network takes 2"):
        SequenceInput(channels=2).fitted([Sequence()], rows_of([np.ones((3, 3))]))


def test_what_is_cut_and_what_is_unknown_is_said():
    said = SequenceInput("ACGT", 4).warnings(["ACGTA", "AN"], pretrained=False)
    assert "1 of 2 sequences" in said[0]
    assert "'N' are not in the alphabet" in said[1]
    assert not SequenceInput("ACGT", 4).warnings(["ACGT"], pretrained=False)


def test_a_source_model_reads_what_the_trained_one_is_given():
    own, theirs = VectorInput(2, (0.0, 0.0), (1.0, 1.0)), VectorInput(2, (1.0, 1.0), (2.0, 2.0))
    assert theirs.reading(own) == theirs, "each standardises in its own way"
    assert VectorInput(3).reading(own) is None
    dna = SequenceInput("ACGT", 8)
    assert SequenceInput("ACGT", 8).reading(dna) == dna
    assert SequenceInput("ACGU", 8).reading(dna) is None
    assert SequenceInput("ACGT", 9).reading(dna) is None


class Rows:
    """A source of both kinds whose validation and test rows are of another world."""

    def __init__(self, elsewhere):
        rng = np.random.default_rng(0)
        self.rows = {"train": [(rng.normal(size=3), "ACCA"), (rng.normal(size=3), "CA")] * 4}
        self.rows |= dict.fromkeys(("val", "test"), [elsewhere] * 4)
        fields = {"numbers": Vector(), "dna": Sequence(), "label": ClassLabel(("a", "b"))}
        sizes = {name: len(rows) for name, rows in self.rows.items()}
        self.info = DataInfo("rows", fields, sizes, "1")

    def split(self, name):
        rows = self.rows[name]
        return [
            {"numbers": numbers, "dna": dna, "label": n % 2}
            for n, (numbers, dna) in enumerate(rows)
        ]


def test_validation_and_test_rows_change_nothing_that_is_fitted():
    """The trap: a scaler or an alphabet that is fitted before the data are split."""
    ports = (
        Port("row", VectorInput(), "numbers", ("numbers",)),
        Port("dna", SequenceInput(), "dna", ("dna",)),
    )

    def fitted(elsewhere):
        source = Rows(elsewhere)
        return fit_inputs(ports, source.info, cut(source, seed=0).train), source

    (one, _), (other, _) = fitted((np.zeros(3), "A")), fitted((np.full(3, 1e6), "GATTACA"))
    assert [port.input for port in one] == [port.input for port in other]
    assert one[1].input == SequenceInput("AC", 4)
    _, far = fitted((np.full(3, 1e6), "GATTACA"))
    every = [row for rows in far.rows.values() for row in rows]
    naive = VectorInput().fitted([], rows_of([numbers for numbers, _ in every]))
    assert abs(naive.mean[0] - one[0].input.mean[0]) > 1e5, "the naive scaler falls into it"


def test_a_subset_reads_values_by_their_fields():
    source = Rows((np.zeros(3), "A"))
    subset = Subset(source.split("train"), np.arange(2), fields=source.info.fields)
    assert subset[0]["dna"] == "ACCA"
