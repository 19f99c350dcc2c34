"""Splits that a table's own column says, in the words that people use."""

import pytest
from PIL import Image
from tlx_data.table import Table

from tlx.errors import DataError


@pytest.fixture
def table(tmp_path):
    """A function from (the header of the columns of splits, their cells) to the table."""
    for number in range(4):
        Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")

    def written(header, cells, **options):
        rows = [f"{i}.png,{'ab'[i % 2]},{cell}" for i, cell in enumerate(cells)]
        (tmp_path / "t.csv").write_text("\n".join([f"image,label,{header}", *rows]) + "\n")
        return Table(str(tmp_path / "t.csv"), label_kind="class", **options)

    return written


@pytest.mark.parametrize(
    ("header", "cells", "splits"),
    [
        ("Split", ("train", "Train", "VALID", "test"), {"train": 2, "val": 1, "test": 1}),
        ("subset", ("training", "training", "dev", "testing"), {"train": 2, "val": 1, "test": 1}),
        ("SET", ("train", "train", "eval", "eval"), {"train": 2, "test": 2}),
        ("Partition", ("train", "train", "Validation", "val"), {"train": 2, "val": 2}),
        ("fold", ("train", "train", "test", "test"), {"train": 2, "test": 2}),
        ("stage", ("train", "train", "test", "val"), {"train": 2, "val": 1, "test": 1}),
        ("is_valid", ("False", "False", "True", "True"), {"train": 2, "val": 2}),
        ("is valid", ("0", "0", "1", "1"), {"train": 2, "val": 2}),
        ("Is_Test", ("no", "no", "yes", "yes"), {"train": 2, "test": 2}),
        ("is_train", ("1", "1", "0", "0"), {"train": 2, "test": 2}),
        ("is_val,is_test", ("0,0", "0,0", "1,0", "0,1"), {"train": 2, "val": 1, "test": 1}),
        ("split,fold", ("train,0", "train,1", "test,2", "test,3"), {"train": 2, "test": 2}),
    ],
)
def test_a_column_that_says_a_split_is_used(table, header, cells, splits):
    assert table(header, cells).info.splits == splits


@pytest.mark.parametrize(
    ("header", "cells", "said"),
    [
        ("fold", "0123", r"column 'fold' .* '0', '1', '2', '3' .*test_values"),
        ("Set", "aabb", "column 'Set' .* 'a', 'b' are no names of one"),
        ("split", ("train", "tran", "test", "test"), "Line 3 .* 'tran'. Did you mean 'train'"),
        ("is_val,is_test", ("0,0", "0,0", "1,1", "0,1"), "Line 4 .* belongs to val, test at once"),
    ],
)
def test_what_a_column_of_splits_leaves_open_is_asked(table, header, cells, said):
    with pytest.raises(DataError, match=said):
        table(header, cells).info  # noqa: B018


def test_a_run_file_says_what_values_stand_for(table):
    folds = table("fold", "0123", test_values=("3",), val_values=("0",))
    assert folds.info.splits == {"train": 2, "val": 1, "test": 1}
    assert table("fold", "0123", split_column=False).info.splits == {"train": 4}
    assert table("part", "aabb", split_column="part", test_values=("b",)).info.splits == {
        "train": 2,
        "test": 2,
    }
    with pytest.raises(DataError, match="holds no '7'; it holds 0, 1, 2, 3"):
        table("fold", "0123", test_values=("7",)).info  # noqa: B018


def test_a_split_without_labels_is_left_out_and_said(table, tmp_path):
    rows = ["0.png,a,train", "1.png,b,train", "2.png,,test", "3.png,NA,test"]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,split", *rows]) + "\n")
    source = Table(str(tmp_path / "t.csv"), label_kind="class")
    assert source.info.splits == {"train": 2}
    assert "2 rows of 'test' have no label and are left out" in source.notes[0]
