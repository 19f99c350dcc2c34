"""Tables whose inputs are rows, pictures, both, or what a run file says."""

import csv

import numpy as np
import pytest
from PIL import Image
from tlx_data.penguins import penguins
from tlx_data.table import Table
from tlx_table import Row

from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled

HEADER = ("age", "colour", "photo", "fold", "species")
ROWS = [
    ("3", "red", "0.png", "train", "cat"),
    ("", "blue", "1.png", "train", "dog"),
    ("5.5", "NA", "2.png", "test", "cat"),
]


@pytest.fixture
def table(tmp_path):
    """A function from options to the table."""
    for number in range(3):
        Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")

    def written(columns=HEADER, name="t.csv", **options):
        with (tmp_path / name).open("w", newline="") as file:
            rows = [[row[HEADER.index(c)] for c in columns] for row in ROWS]
            csv.writer(file).writerows([columns, *rows])
        return Table(str(tmp_path / name), **options)

    return written


PLAIN = ("age", "colour", "fold", "species")


def test_a_table_without_pictures_gives_rows(table):
    source = table(PLAIN)
    assert isinstance(source, DataSource)
    info = source.info
    assert dict(info.fields)["row"] == Row(("age", "colour"))
    assert (info.inputs, info.targets, info.classes) == (("row",), ("label",), ("cat", "dog"))
    assert info.splits == {"train": 2, "test": 1}
    split = source.split("train")
    assert isinstance(split, Labelled)
    assert split[1] == {"row": {"age": "", "colour": "blue"}, "label": 1}
    assert split.called(1) == f"Line 3 of {source.path!r}"
    assert source.notes[0] == "The table has the labels in 'species'."
    assert "The field 'row' is 'age', 'colour'." in source.notes


def test_pictures_are_still_the_input_where_there_is_a_column_of_them(table):
    source = table()
    assert source.info.inputs == ("image",)
    assert set(source.split("train")[0]) == {"image", "label"}


def test_a_picture_and_the_row_of_the_other_columns(table):
    source = table(fields={"image": {}, "row": {"categorical": ["age"]}})
    assert source.info.inputs == ("image", "row")
    assert source.info.fields["row"] == Row(("age", "colour"), categorical=("age",))
    example = source.split("test")[0]
    assert example["image"].shape == (4, 4, 3)
    assert example["row"] == {"age": "5.5", "colour": "NA"}
    assert source.split("test").called(0).endswith("2.png")


def test_a_run_file_says_fields_by_column(table):
    source = table(
        fields={
            "numbers": {"columns": ["age"]},
            "words": {"kind": "row", "columns": ["colour"]},
            "tint": {"kind": "image", "column": "photo"},
            "kind": {"role": "target", "column": "species"},
        }
    )
    info = source.info
    assert info.inputs == ("numbers", "words", "tint")
    assert (info.targets, info.label) == (("kind",), "kind")
    example = source.split("train")[0]
    assert example["numbers"] == {"age": "3"}
    assert example["tint"].shape == (4, 4, 3)
    assert example["kind"] == 0


def test_a_target_may_be_a_picture_and_there_need_be_no_label(table):
    fields = {"image": {"column": "photo"}, "after": {"kind": "image", "column": "photo"}}
    source = table(fields={**fields, "after": {**fields["after"], "role": "target"}})
    assert (source.info.inputs, source.info.targets) == (("image",), ("after",))
    example = source.split("train")[1]
    np.testing.assert_array_equal(example["image"], example["after"])
    assert set(example) == {"image", "after"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"row": {"columns": ["age", "species"]}, "label": {"column": "species"}},
         "'species' is the label, and the field 'row' has it, too"),
        ({"row": {"columns": ["aeg"]}}, "no column 'aeg'. Did you mean 'age'"),
        ({"x": {"column": "age"}}, r"\[data.fields.x\] has no kind; it is one of 'label'"),
        ({"x": {"kind": "rwo", "column": "age"}}, "'rwo', which is not installed. Did you mean"),
        ({"row": {"column": "age", "columns": ["age"]}}, "column and columns; it is one or"),
        ({"row": {"role": "inptu"}}, "the role 'inptu'"),
        ({"x": {"kind": "image", "columns": ["age", "photo"]}}, "takes one column, not 2"),
        ({"a": {"kind": "row"}, "b": {"kind": "row"}}, "say the columns of the fields 'a', 'b'"),
        ({"y": {"kind": "label"}}, "names no column. Say which"),
        ({"label": {"column": "species", "role": "input"}}, "is a target and no input"),
    ],
)  # fmt: skip
def test_what_a_run_file_cannot_mean_is_refused(table, fields, said):
    with pytest.raises(DataError, match=said) as caught:
        table(fields=fields, label=None if "label" in fields else "species").info  # noqa: B018
    assert "\n" not in str(caught.value)


def test_the_fingerprint_follows_cells_and_not_how_numbers_are_written(table, tmp_path):
    one = table(PLAIN).info.fingerprint
    path = tmp_path / "t.csv"
    path.write_text(path.read_text().replace("5.5", "5.50"))
    assert Table(str(path)).info.fingerprint == one
    path.write_text(path.read_text().replace("5.5", "5.6"))
    assert Table(str(path)).info.fingerprint != one


def test_penguins_are_the_published_ones():
    """344 penguins, of which two have no measures and eleven no sex (the package's README)."""
    pytest.importorskip("palmerpenguins")
    source = penguins()
    info, split = source.info, source.split("train")
    assert (info.classes, info.splits) == (("Adelie", "Chinstrap", "Gentoo"), {"train": 344})
    assert np.bincount(split.labels).tolist() == [152, 68, 124]
    rows = [info.fields["row"].read(split[i]["row"], "x") for i in range(344)]
    assert sum(row["sex"] is None for row in rows) == 11
    assert sum(row["body_mass_g"] is None for row in rows) == 2
    assert {row["island"] for row in rows} == {"Biscoe", "Dream", "Torgersen"}
