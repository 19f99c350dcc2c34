"""Rows in whatever form a caller has them, and what tells them apart."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from tlx_table import Row

from tlx.contracts import field as contracts
from tlx.data.fields import each_value
from tlx.errors import ConfigError, DataError

COLUMNS = ("size", "colour", "age")
ROWS = Row(COLUMNS)
CELLS = {"size": 1.5, "colour": "red", "age": None}


def test_it_is_what_the_contracts_say():
    wanted = ("Field", "Shown", "Fingerprinted", "ListedInFiles", "ReadsMany", "Sampled")
    for name in wanted:
        assert isinstance(ROWS, getattr(contracts, name))


@pytest.mark.parametrize(
    "given",
    [
        CELLS,
        {"age": float("nan"), "colour": " red ", "size": 1.5},
        [1.5, "red", ""],
        (1.5, "red", "n/a"),
        np.array([1.5, "red", None], object),
        json.dumps(CELLS),
        pd.Series([1.5, "red", np.nan], COLUMNS),
        {"size": np.float64(1.5), "colour": "red", "age": pd.NA},
    ],
)
def test_a_row_reads_the_same_in_every_form(given):
    assert [*each_value(ROWS, given)] == [("The row", CELLS)]
    assert ROWS.read(ROWS.read(given, ""), "") == CELLS


@pytest.mark.parametrize(
    "given",
    [
        [CELLS, CELLS],
        ([1.5, "red", None], [1.5, "red", None]),
        np.array([[1.5, "red", None]] * 2, object),
        pd.DataFrame([CELLS, CELLS]),
        [json.dumps(CELLS)] * 2,
        iter([CELLS, CELLS]),
    ],
)
def test_several_rows(given):
    assert [*each_value(ROWS, given)] == [("The row [0]", CELLS), ("The row [1]", CELLS)]


def test_numbers_stay_numbers_and_words_keep_their_zeros():
    read = Row(("a", "b", "c")).read(["0123", 7, True], "x")
    assert read == {"a": "0123", "b": 7, "c": 1.0}
    assert [type(cell) for cell in read.values()] == [str, int, float]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 1, "color": "red", "age": 3}, "no column 'colour'. Did you mean 'color'"),
        ({"size": 1, "colour": "red"}, "The row has no column 'age'.*where nothing is known, None"),
        ({**CELLS, "length": 2}, "a column 'length', which is unknown.*The columns are 'size'"),
        ([1, 2], "has 2 cells, and there are 3 columns, 'size', 'colour', 'age'"),
        ("red", "The row is the text 'red', and no row"),
        ("gone.csv", "The table 'gone.csv' does not exist"),
        ("{red", "The row is the text '{red', and no row. A row is a mapping"),
        ({**CELLS, "age": [1]}, r"\[1\] \(list\) in the column 'age'; a cell is a finite number"),
        ({**CELLS, "age": float("inf")}, "inf .float. in the column 'age'"),
        (3.5, "of type float is no row"),
    ],
)
def test_what_is_no_row_is_refused_in_a_sentence(given, said):
    with pytest.raises(DataError, match=said) as caught:
        list(each_value(ROWS, given))
    assert "\n" not in str(caught.value)


def test_stated_kinds_are_those_of_columns():
    assert Row(COLUMNS, numeric=("size",), categorical=("age",)).columns == COLUMNS
    with pytest.raises(ConfigError, match=r"no column 'sizes'\. Did you mean 'size'"):
        Row(COLUMNS, numeric=("sizes",))
    with pytest.raises(ConfigError, match="'age' is stated twice"):
        Row(COLUMNS, numeric=("age",), categorical=("age",))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_a_file_holds_many_rows_whatever_else_it_holds(tmp_path, ending):
    frame = pd.DataFrame({"label": ["a", "b"], "age": [None, 3], "size": [1.5, 2], "colour": "red"})
    path = tmp_path / f"rows{ending}"
    if ending == ".parquet":
        parquet.write_table(pa.Table.from_pandas(frame), path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    (first, one), (second, two) = ROWS.each(path)
    place = "Row 1 of" if ending == ".parquet" else "Line 2 of"
    assert first.startswith(place)
    assert first != second
    assert (float(one["size"]), one["colour"], one["age"]) == (1.5, "red", None)
    assert (float(two["size"]), two["colour"], float(two["age"])) == (2.0, "red", 3.0)
    with pytest.raises(DataError, match=f"The table .*rows{ending}' has no column 'weight'"):
        list(Row((*COLUMNS, "weight")).each(path))


def test_a_fingerprint_is_of_cells_and_not_of_how_they_are_written():
    def digest(*cells):
        return ROWS.fingerprint(ROWS.read(list(cells), "x"))

    assert digest("1.50", "red", None) == digest(1.5, "red", "NA")
    assert digest(1.5, "red", 0).digest != digest(1.5, "red", None).digest
    assert digest(None, "", "NA").flat
    assert not digest(1, "red", None).flat
    assert not digest(1, "red", None).sure


def test_a_row_is_shown_in_a_line():
    assert ROWS.show(CELLS) == "size 1.5, colour red, age missing"
    many = Row(tuple(f"c{i}" for i in range(30)))
    assert many.show(many.read(list(range(30)), "x")).endswith("c11 11, 18 more")
