"""What is learnt of training rows, held against scikit-learn's preprocessing."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tlx_table import Row, RowInput

from tlx import registry
from tlx.contracts.input import FitsInput, Input
from tlx.contracts.options import plain_options
from tlx.errors import ConfigError, DataError
from tlx.run_folder.plugin_reference import reference_of


def fitted(rows, columns, start=None, **stated):
    field = Row(tuple(columns), **stated)
    values = [(field.read(list(row), "x"),) for row in rows]
    return field, (start or RowInput()).fitted([field], lambda: values)


def encoded(field, inputs, rows):
    arrays = [inputs.encode(field.read(list(row), "x"), name="The row") for row in rows]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *arrays)


def prepared(field, inputs, rows):
    return np.asarray(inputs.prepare(encoded(field, inputs, rows)))


numbers = some.integers(-(10**6), 10**6).map(lambda number: number / 100) | some.none()
words = some.sampled_from(["a", "b", "c", None])


@settings(max_examples=40, deadline=None)
@given(
    train=some.lists(some.tuples(numbers, numbers, words), min_size=2, max_size=9),
    test=some.lists(some.tuples(numbers, numbers, words), min_size=1, max_size=4),
    fill=some.sampled_from(["median", "mean"]),
)
def test_it_is_what_scikit_learn_does(train, test, fill):
    """Standardised with missing ones ignored, filled, indicated; one-hot with unknown ignored."""
    for place in range(2):
        if all(row[place] is None for row in train):
            train = [*train, (1.0, 2.0, "a")]
    field, inputs = fitted(train, "xyz", RowInput(fill=fill), categorical=("z",))
    frames = [pd.DataFrame(rows, columns=list("xyz")) for rows in (train, test)]
    for frame in frames:
        frame[["x", "y"]] = frame[["x", "y"]].astype(float)
        frame["z"] = frame["z"].astype(object).where(frame["z"].notna(), None)
    scale = make_pipeline(StandardScaler(), SimpleImputer(strategy=fill))
    numeric = make_union(scale, MissingIndicator(features="missing-only", error_on_new=False))
    theirs = ColumnTransformer(
        [
            ("numbers", numeric, ["x", "y"]),
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["z"]),
        ]
    ).fit(frames[0])
    for rows, frame in zip((train, test), frames, strict=True):
        found = prepared(field, inputs, rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, theirs.transform(frame), rtol=1e-4, atol=1e-4)


ROWS = [(1, "u", None, "red"), ("2.5", "v", 3, "red"), (None, "u", "4", None), (4, "w", 5, "blue")]
COLUMNS = ("size", "kind", "age", "colour")


def test_columns_are_inferred_and_places_are_their_own():
    field, inputs = fitted(ROWS, COLUMNS)
    assert isinstance(inputs, Input)
    assert isinstance(inputs, FitsInput)
    assert (inputs.numeric, inputs.categorical) == (("size", "age"), ("kind", "colour"))
    assert inputs.vocabulary == (("u", "v", "w"), ("blue", "red", None))
    assert inputs.gaps == ("size", "age")
    arrays = encoded(field, inputs, [(1, "u", 3, None), (1, "new", 3, "red")])
    assert arrays["categories"].tolist() == [[1, 3], [0, 2]]
    x = np.asarray(inputs.prepare(arrays))
    assert x[0, 4:].tolist() == [1, 0, 0, 0, 0, 1]
    assert x[1, 4:].tolist() == [0, 0, 0, 0, 1, 0]
    for array, spec in zip(jax.tree.leaves(arrays), jax.tree.leaves(inputs.example()), strict=True):
        assert (array.shape[1:], array.dtype) == (spec.shape[1:], spec.dtype)


def test_a_missing_number_where_training_had_none_is_the_median():
    field, inputs = fitted([(1,), (2,), (6,)], ["x"])
    assert inputs.gaps == ()
    missing, median = prepared(field, inputs, [(None,), (2,)])
    np.testing.assert_array_equal(missing, median)


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (["1", "2.5", None], True),
        (["1,5", "2,75"], True),
        (["1,000", "2,000.5"], True),
        (["01", "02"], False),
        (["1", "two"], False),
        ([True, False], True),
        ([1, 2], True),
    ],
)
def test_what_a_column_is_follows_its_cells(cells, numeric):
    _, inputs = fitted([(cell,) for cell in cells], ["x"])
    assert bool(inputs.numeric) == numeric
    if cells[0] == "1,5":
        assert inputs.mean == (2.125,)
    if cells[0] == "1,000":
        assert inputs.mean == (1500.25,)


def test_a_run_file_says_what_a_column_is():
    _, inputs = fitted([(1, "2"), (2, "3"), (3.0, "3")], "ab", categorical=("a",), numeric=("b",))
    assert (inputs.categorical, inputs.vocabulary) == (("a",), (("1", "2", "3"),))
    assert inputs.numeric == ("b",)


def test_large_numbers_that_differ_by_little_are_told_apart():
    """Seconds since 1970 in single precision are all the same within two minutes."""
    field, inputs = fitted([(1.7e9 + i,) for i in range(5)], ["at"])
    found = prepared(field, inputs, [(1.7e9 + i,) for i in range(5)])
    np.testing.assert_allclose(found[:, 0], (np.arange(5) - 2) / np.sqrt(2), rtol=1e-5)


def test_numbers_out_of_all_proportion_stay_finite():
    field, inputs = fitted([(0.0,), (1e-44,)], ["x"])
    assert np.isfinite(prepared(field, inputs, [(1.0,), (-1e300,)])).all()


def test_it_is_written_as_json_and_made_again():
    _, inputs = fitted(ROWS, COLUMNS)
    options = json.loads(json.dumps(plain_options(inputs), allow_nan=False))
    again = registry.build("inputs", reference_of("inputs", inputs), options)
    assert again == inputs
    assert hash(again) == hash(inputs)


def test_what_came_with_weights_stays():
    _, inputs = fitted(ROWS, COLUMNS)
    _, again = fitted([(9, "x", 9, "red")], COLUMNS, inputs)
    assert again == inputs
    with pytest.raises(DataError, match="A row of the data has no column 'age'"):
        fitted([(9, "x", "red")], ("size", "kind", "colour"), inputs)
    with pytest.raises(DataError, match="a column 'more', which is unknown"):
        fitted([(9, "x", 9, "red", 1)], (*COLUMNS, "more"), inputs)


@pytest.mark.parametrize(
    ("rows", "stated", "said"),
    [
        ([(1, None), (2, None)], {}, "'b' has no cell in any of the 2 training rows"),
        ([(i, f"name {i}") for i in range(50)], {}, "'b' holds 50 different texts in 50 training"),
        ([(1, "x"), (2, "3")], {"numeric": ("b",)}, "'b' is stated to be numeric, and holds 'x'"),
        ([(1, "1,500"), (2, "2,500")], {}, "commas, such as '1,500', which may set off thousands"),
    ],
)
def test_what_cannot_be_learnt_of_is_refused(rows, stated, said):
    with pytest.raises((ConfigError, DataError), match=said):
        fitted(rows, "ab", **({"numeric": ("b",)} if rows[0][1] is None else stated))


def test_a_new_row_is_refused_in_a_sentence():
    _, inputs = fitted(ROWS, COLUMNS)
    row = dict(zip(COLUMNS, ROWS[0], strict=True))
    with pytest.raises(DataError, match="The row has 'big' in the column 'size', which held num"):
        inputs.encode({**row, "size": "big"}, name="The row")
    with pytest.raises(DataError, match="The row has no column 'kind'"):
        inputs.encode({k: v for k, v in row.items() if k != "kind"}, name="The row")
    with pytest.raises(DataError, match=r"'sice', which is unknown\. Did you mean"):
        inputs.encode({**row, "sice": 1}, name="The row")
