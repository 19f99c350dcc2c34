"""What a label is, is decided by the head and by class_names, not by how it is spelled."""

import numpy as np
import pytest
from tlx_data.labels import read_labels

from tlx.errors import DataError


def place(split, i):
    return f"Row {i} of {split}"


def read(cells, kind, **options):
    return read_labels({"train": cells}, place, kind=kind, **options)


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["01234", "1234", "01234"], ("01234", "1234")),
        (["3.1", "3.10", "3.1"], ("3.1", "3.10")),
        (["1e3", "1000", "1e3"], ("1000", "1e3")),
        (["10", "9", "10"], ("9", "10")),
        (["3", "1", "5"], ("1", "3", "5")),
        (["2", "A", "0"], ("0", "2", "A")),
        ([1.0, 0.0, 1.0], ("0", "1")),
        ([True, False, True], ("False", "True")),
        ([["cat"], ["dog"], ["cat"]], ("cat", "dog")),
        ([{"cat": 1, "dog": 0}, {"cat": "0", "dog": "1"}], ("cat", "dog")),
    ],
)
def test_to_a_head_of_classes_a_label_is_a_name_as_it_is_spelled(cells, classes):
    found = read(cells, "class")
    assert found.classes == classes
    assert found.values["train"].dtype == np.int32


@pytest.mark.parametrize(
    ("cells", "names", "values"),
    [
        (["02234", "01234"], ("01234", "02234"), [1, 0]),
        (["1.0", "0"], ("cat", "dog"), [1, 0]),
        ([1, 0], ("cat", "dog"), [1, 0]),
        (["NA", "None"], ("NA", "None"), [0, 1]),
        (["null", "dog"], ("dog", "null"), [1, 0]),
    ],
)
def test_class_names_say_what_is_a_class(cells, names, values):
    found = read(cells, "class", names=names)
    assert found.classes == names
    assert found.values["train"].tolist() == values


@pytest.mark.parametrize("kind", ["class", "multilabel", "number"])
@pytest.mark.parametrize("gap", ["", " ", "NaN", "nan", "NA", "N/A", "null", "None", None, np.nan])
def test_a_missing_label_is_refused_by_its_row_to_every_head(kind, gap):
    cells = ["1", gap, "0"] if kind == "class" else ["1", gap, "0.5"]
    with pytest.raises(DataError, match="Row 1 of train has no label"):
        read(cells, kind)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["20", "31", "7"], [20, 31, 7]),
        ([20, 31, 7], [20, 31, 7]),
        (["01", "+2", "-3e-1"], [1, 2, -0.3]),
        (["1,5", "2,25", "3,0"], [1.5, 2.25, 3]),
        (["1,234.5", "2,000.0", "7"], [1234.5, 2000, 7]),
        (["1|2", "3|4", "5|6"], [[1, 2], [3, 4], [5, 6]]),
        (["[1, 2]", "[3, 4]", "[5, 6]"], [[1, 2], [3, 4], [5, 6]]),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]], [[1, 2], [3, 4], [5, 6.5]]),
    ],
)
def test_to_a_regression_a_label_is_a_number(cells, values):
    found = read(cells, "number")
    assert found.classes == ()
    np.testing.assert_array_equal(found.values["train"], np.asarray(values, np.float32))
    assert found.values["train"].dtype == np.float32


def test_numbers_in_columns_keep_the_names_of_their_columns():
    found = read([{"x": "1", "y": 2.5}, {"x": "3", "y": 4}], "number")
    assert found.numbers == ("x", "y")
    assert found.values["train"].tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize(
    ("cells", "names", "classes", "rows"),
    [
        (["a|b", "b", "c"], None, ("a", "b", "c"), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]),
        ([["b", "a"], [], ["a"]], None, ("a", "b"), [[1, 1], [0, 0], [1, 0]]),
        (["['a', 'b']", '["b"]', "[]"], None, ("a", "b"), [[1, 1], [0, 1], [0, 0]]),
        ([[0, 2], [1], [2]], ("x", "y", "z"), ("x", "y", "z"), [[1, 0, 1], [0, 1, 0], [0, 0, 1]]),
        ([[1, 1, 0], [0, 0, 0]], None, ("0", "1", "2"), [[1, 1, 0], [0, 0, 0]]),
        ([{"a": "1", "b": 0}, {"a": "yes", "b": True}], None, ("a", "b"), [[1, 0], [1, 1]]),
        (["b|a"], ("b", "a"), ("b", "a"), [[1, 1]]),
    ],
)
def test_to_a_head_of_several_classes_a_label_is_yes_or_no_for_each(cells, names, classes, rows):
    found = read(cells, "multilabel", names=names)
    assert found.classes == classes
    assert found.values["train"].tolist() == rows


@pytest.mark.parametrize(
    ("cells", "kind", "names", "said"),
    [
        ([str(k) for k in range(20, 40)], "class", None, '20 different numbers.*"regression"'),
        (["-1", "0", "1"], "class", None, "Row 0 .* stands for a missing label"),
        ([["a", "b"], ["a"]], "class", None, 'Row 0 .* has 2 labels.*"multilabel"'),
        ([{"a": 1, "b": 1}, {"a": 1, "b": 0}], "class", None, 'Row 0 .* "multilabel"'),
        (["a", "b"], "number", None, "Row 0 .* 'a', which is no finite number"),
        (["1.5", "inf"], "number", None, "Row 1 .* 'inf', which is no finite number"),
        (["1|2", "3"], "number", None, "Row 1 .* another number of targets, 1, than the 2"),
        (["1,234", "2,500"], "number", None, "thousands or decimal places"),
        ([1.7e9, 1.7e9 + 1, 1.7e9 + 2], "number", None, "too large against what they differ by"),
        (["1", "2"], "number", ("a", "b"), "no classes. Leave class_names out"),
        (["a,b", "b,c", "a"], "multilabel", None, "label_separator = ','"),
        (["a|b", "d"], "multilabel", ("a", "b"), "Row 1 .* 'd', which is none of the 2 classes"),
        (["a||b"], "multilabel", None, "Row 0 .* empty name"),
        ([{"x": 1, "y": ""}], "number", None, "Row 0 of train, column 'y', has no label"),
        ([{"a": 1, "b": None}], "multilabel", None, "Row 0 of train, column 'b', has no label"),
        ([{"a": 1, "b": 0.5}], "multilabel", None, "Row 0 .* 0.5 in the column 'b'"),
        ([b"\x89PNG", b"a"], "class", None, r"Row 0 .* has the label 4 bytes \(bytes\)"),
    ],
)
def test_what_means_nothing_to_the_head_is_refused_with_what_would(cells, kind, names, said):
    with pytest.raises(DataError, match=said) as caught:
        read(cells, kind, names=names)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nothing_separates_no_labels():
    with pytest.raises(DataError, match="label_separator"):
        read(["ab", "a"], "multilabel", separator="")


def test_what_was_decided_is_said():
    assert "names of 2 classes" in read(["3.1", "3.10"], "class").notes[0]
    assert "spelled like numbers" in read(["1", "a"], "class").notes[0]
    assert "differ in capitals" in read(["Cat", "cat"], "class").notes[0]
    assert 'head = "multilabel"' in read(["a|b", "c"], "class").notes[0]
    assert read(["0", "1", "2"], "class").notes == ()


def test_where_no_head_decides_decimal_numbers_are_targets():
    assert read(["0.5", "1"], None).classes == ()
    assert read(["0", "1"], None).classes == ("0", "1")
    assert read([str(age) for age in range(20, 40)], None).classes == ()
    assert read([["a"], ["b", "a"]], None).values["train"].shape == (2, 2)
    assert read([{"x": 0.5, "y": 3}], None).values["train"].shape == (1, 2)
