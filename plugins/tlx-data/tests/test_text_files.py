"""Files of texts: a line for an example, a file for a split, in a folder or in a zip."""

import zipfile

import numpy as np
import pytest
from tlx_data.text_files import TextFiles

from tlx.errors import DataError

FILES = {
    "train.tsv": 'good\ta fine film\nbad\tdull\n\ngood\tsay "cheese"\n',
    "dev.tsv": "bad\tso so\n",
    "test.tsv": "good\tgrößer\r\n",
    "notes.md": "not data",
}


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "texts"
    home.mkdir()
    for name, text in FILES.items():
        (home / name).write_text(text, encoding="utf-8", newline="")
    return home


@pytest.fixture
def packed(folder):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(folder / name, name)
    return folder.with_suffix(".zip")


@pytest.mark.parametrize("form", ["folder", "packed"])
def test_a_folder_and_a_zip_say_the_same(form, request, folder):
    source = TextFiles(str(request.getfixturevalue(form)))
    info = source.info
    assert info.name == "texts"
    assert dict(info.splits) == {"train": 3, "val": 1, "test": 1}
    assert (info.classes, info.inputs, info.targets) == (("bad", "good"), ("text",), ("label",))
    assert info.fields["text"].kind == "text"
    train = source.split("train")
    assert [train[i]["text"] for i in range(3)] == ["a fine film", "dull", 'say "cheese"']
    np.testing.assert_array_equal(train.labels, [1, 0, 1])
    assert train.called(2) == "train.tsv:4"
    assert source.split("test")[0]["text"] == "größer"
    assert info.fingerprint == TextFiles(str(folder)).info.fingerprint


def test_files_by_name_and_columns(tmp_path):
    path = tmp_path / "domains.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("books.tsv", "1\t5\ttitle\treview\n0\t1\tother\tbad\n")
        archive.writestr("dvd.tsv", "1\t5\ta\tb\n")
    columns = ("label", "", "title", "review")
    source = TextFiles(str(path), columns, train="books.tsv", test="dvd.tsv")
    assert source.info.inputs == ("title", "review")
    assert source.split("train")[1] == {"title": "other", "review": "bad", "label": 0}
    assert dict(source.info.splits) == {"train": 2, "test": 1}
    alone = TextFiles(str(path), columns, train="books.tsv")
    assert dict(alone.info.splits) == {"train": 2}
    assert alone.info.fingerprint != source.info.fingerprint
    names = TextFiles(str(path), columns, train="books.tsv", class_names=("no", "yes"))
    assert names.info.classes == ("no", "yes")


def test_labels_are_what_the_head_takes_them_for(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("3.5\tone\n1.25\ttwo\n")
    source = TextFiles(str(path), label_kind="number")
    assert not source.info.classes
    np.testing.assert_array_equal(source.split("train").labels, np.float32([3.5, 1.25]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "none"}, "There is no"),
        ({"train": "trian.tsv"}, r"holds no such file of texts. Did you mean 'train.tsv'\?"),
        ({"columns": ("label", "a", "b")}, "Line 1 of 'train.tsv' has 2 cells between tabs"),
        ({"columns": ("text",)}, "has to hold 'label'"),
        ({"columns": ("label", "label")}, "has to hold 'label'"),
        ({"test": "test.tsv"}, "no file of texts that is called 'train'"),
        ({"class_names": ("good",)}, "'bad'"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(folder, options, said):
    path = str(folder / options.pop("path")) if "path" in options else str(folder)
    with pytest.raises(DataError, match=said):
        _ = TextFiles(path, **options).info


def test_damaged_files(folder, packed):
    (folder / "valid.tsv").write_text("good\tone\n")
    with pytest.raises(DataError, match=r"which may both be 'val'\. Say which"):
        _ = TextFiles(str(folder)).info
    (folder / "valid.tsv").unlink()
    (folder / "train.tsv").write_bytes("good\tone\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"'train\.tsv' is stored as UTF-16"):
        _ = TextFiles(str(folder)).info
    (folder / "train.tsv").write_text("\n\n")
    with pytest.raises(DataError, match=r"'train\.tsv' holds no text"):
        _ = TextFiles(str(folder)).info
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(DataError, match="The zip file"):
        _ = TextFiles(str(packed)).info
