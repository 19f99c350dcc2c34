"""Tables of pictures, held against csv, pyarrow and Pillow."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as HubImage
from PIL import Image
from pyarrow import parquet
from tlx_data.table import Table

import tlx
from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled
from tlx.run_file.finetune import table as finetune
from tlx.testing import toys

ROWS = [
    ("image", "label", "split"),
    ("pictures/b 0.png", "bee", "train"),
    ("pictures/1.png", "ant", "train"),
    ("pictures/2.jpg", "bee", "validation"),
    ("pictures/3.png", "ant", "test"),
]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "pictures").mkdir()
    for shade, (path, *_) in enumerate(ROWS[1:]):
        Image.new("RGB", (5, 6 + shade), (shade, 0, 200)).save(tmp_path / path)
    return tmp_path


def written(home, rows, name="list.csv", **options):
    with (home / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",").writerows(rows)
    return Table(str(home / name), **options)


def column(home, labels, **options):
    """All four pictures as 'train', with these labels, a list or words."""
    labels = labels.split() if isinstance(labels, str) else labels
    pairs = zip((path for path, *_ in ROWS[1:]), labels, strict=True)
    return written(home, [("image", "label"), *pairs], **options)


def as_parquet(home, rows, name="list.parquet", **options):
    head, *body = rows
    columns = {name: [row[i] for row in body] for i, name in enumerate(head)}
    parquet.write_table(pa.table(columns), home / name, row_group_size=2)
    return Table(str(home / name), **options)


@pytest.mark.parametrize("write", [written, as_parquet])
def test_rows_are_examples(home, write):
    source = write(home, ROWS)
    assert isinstance(source, DataSource)
    assert source.info.classes == ("ant", "bee")
    assert source.info.splits == {"train": 2, "val": 1, "test": 1}
    assert source.info.fields["image"].shape is None
    for name, rows in (("train", ROWS[1:3]), ("val", ROWS[3:4]), ("test", ROWS[4:])):
        split = source.split(name)
        assert isinstance(split, Labelled)
        assert len(split) == len(rows)
        for index, (path, label, _) in enumerate(rows):
            with Image.open(home / path) as opened:
                np.testing.assert_array_equal(split[index]["image"], np.asarray(opened))
            assert source.info.classes[split[index]["label"]] == label
            assert split.labels[index] == split[index]["label"]


def test_a_table_is_the_same_in_every_format(home):
    prints = {
        written(home, ROWS).info.fingerprint,
        written(home, ROWS, "list.tsv").info.fingerprint,
        as_parquet(home, ROWS).info.fingerprint,
    }
    assert len(prints) == 1


def test_columns_may_be_called_otherwise(home):
    renamed = [("file", "fold", "kind", "note"), *((p, s, k, "x, y") for p, k, s in ROWS[1:])]
    source = written(home, renamed, image="file", label="kind", split_column="fold")
    assert source.info == written(home, ROWS).info
    assert written(home, renamed, label="kind").info == source.info
    alone = written(home, renamed, image="file", label="kind", split_column=False)
    assert alone.info.splits == {"train": 4}


def test_the_pictures_may_lie_elsewhere(home, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    source = written(other, ROWS, root=str(home))
    assert source.info.fingerprint == written(home, ROWS).info.fingerprint
    moved = [ROWS[0], *((p.removeprefix("pictures/"), k, s) for p, k, s in ROWS[1:])]
    assert written(other, moved, root=str(home / "pictures")).split("test")[0]["image"].any()
    with pytest.raises(DataError, match=r"folder of pictures .*gone' does not exist"):
        written(other, ROWS, root=str(home / "gone")).info  # noqa: B018


def test_a_byte_order_mark_and_quotes_and_empty_lines_are_read(home):
    text = (
        '\ufeffimage,label\r\n"pictures/b 0.png","one,\r\ntwo"\r\n\r\npictures/1.png,"a ""b"""\r\n'
    )
    (home / "list.csv").write_bytes(text.encode())
    assert Table(str(home / "list.csv")).info.classes == ('a "b"', "one,\r\ntwo")


def test_class_numbers_targets_and_class_names(home):
    numbers = column(home, "2 0 1 1")
    assert numbers.info.classes == ("0", "1", "2")
    assert numbers.split("train").labels.tolist() == [2, 0, 1, 1]
    targets = column(home, "2 0.5 -1e-3 .25")
    assert targets.info.classes == ()
    np.testing.assert_allclose(targets.split("train").labels, [2, 0.5, -1e-3, 0.25])
    assert targets.split("train").labels.dtype == np.float32
    names = ("cat", "bee", "ant")
    named = column(home, "ant bee bee ant", class_names=names)
    assert named.info.classes == names
    assert named.split("train").labels.tolist() == [2, 1, 1, 2]
    counted = column(home, "2 1 1 2", class_names=names)
    assert counted.info == named.info
    # Called by number, in the order of the numbers.
    assert column(home, "2 0 1 1", class_names=("0", "1", "2")).info == numbers.info
    names = ("1", "2", "ten")
    assert column(home, "ten 1 1 2", class_names=names).split("train").labels[0] == 2


def test_numbers_of_parquet_are_numbers(home):
    paths = [path for path, *_ in ROWS[1:]]
    whole = as_parquet(home, [("image", "label"), *zip(paths, [1, 0, 1, 0], strict=True)])
    assert whole.split("train").labels.tolist() == [1, 0, 1, 0]
    text = column(home, "1 0 1 0")
    assert whole.info == text.info
    targets = as_parquet(home, [("image", "label"), *zip(paths, [0.5, 0, 1, 2], strict=True)])
    assert targets.info.classes == ()
    # pandas makes floats of whole numbers where one is missing.
    gap = as_parquet(home, [("image", "label"), *zip(paths, [1, 0, float("nan"), 0], strict=True)])
    with pytest.raises(DataError, match=r"Row 3 of .*list.parquet' has no label"):
        gap.info  # noqa: B018


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        ("ant bee|| bee", None, r"Line 4 of .*list.csv' has no label"),
        ("ant NA none bee", None, r"Line 3 .* has no label, but 'NA', .*\(1 more"),
        ("ant none bee bee", "ant bee", "Line 3 .* If 'none' is a class, list it in class_names"),
        ("0 -1 0 1", None, "Line 3 .* has the label -1; classes are numbered from 0"),
        ("ant be ant ant", "ant bee", "Line 3 .* 'be', which is none of the 2 classes 'ant', 'bee'"
         ".*Did you mean 'bee'"),
        ("0 1 2 1", "ant bee", "Line 4 .* has the label '2', which is none of the 2 classes"),
        ("1 0 1 1", "1 0", "The label 1 can be read as the class called '1'"),
        ("ant ant ant ant", "ant bee ant", "class_names holds 'ant' twice"),
    ],
)  # fmt: skip
def test_labels_that_mean_nothing_are_refused(home, labels, names, said):
    parts = [label.replace("|", "") for label in labels.replace("||", " |").split(" ")]
    source = column(home, parts, class_names=tuple(names.split()) if names else None)
    with pytest.raises(DataError, match=said) as caught:
        source.info  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("../secret.png", "ant", "train"), "'../secret.png', which lies outside of the folder"),
        (("pictures/../../secret.png", "ant", "train"), "lies outside of the folder"),
        (("{home}/../secret.png", "ant", "train"), "lies outside of the folder"),
        (("C:\\secret.png", "ant", "train"), "lies outside of the folder"),
        (("https://a.example/5.png", "ant", "train"), "lies on another machine"),
        (("link.png", "ant", "train"), "lies outside of the folder"),
        (("pictures/gone.png", "ant", "train"), "'pictures/gone.png', which does not exist in"),
        (("pictures", "ant", "train"), "does not exist"),
        (("", "ant", "train"), "has no path of a picture"),
        (("pictures/5.png", "ant", "trian"), "names the split 'trian'. Did you mean 'train'"),
        (("pictures/5.png", "ant", ""), "names the split ''"),
        (("pictures/5.png", "", "train"), "has no label"),
        (("pictures/5.png", "wasp", "test"), "'wasp', which no example of 'train' has"),
        (("pictures/./1.png", "ant", "test"), "is listed already \\(Line 3"),
        (("pictures/5.png", "ant"), "has another number of cells, 2, than the 3 columns"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(home, row, said):
    shutil.copy(home / "pictures/1.png", home / "pictures/5.png")
    shutil.copy(home / "pictures/1.png", home.parent / "secret.png")
    (home / "link.png").symlink_to(home.parent / "secret.png")
    row = (row[0].format(home=home), *row[1:])
    with pytest.raises(DataError, match=rf"^Line 6 of '.*list.csv' .*{said}") as caught:
        written(home, [*ROWS, row]).info  # noqa: B018
    assert "\n" not in str(caught.value)
    if len(row) == 3:
        with pytest.raises(DataError, match=r"^Row 5 of '.*list.parquet' "):
            as_parquet(home, [*ROWS, row]).info  # noqa: B018


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("list.csv", b"image,lable,x\na.png,1,2\n", {}, "no column 'label'. Did you mean 'lable'"),
        ("list.csv", b"a.png,ant\nb.png,bee\n", {}, "has no names of columns: its first line is"),
        ("list.csv", b"image,file,a,b\n", {}, "columns may be meant: 'file', 'a', 'b'"),
        ("list.csv", b"image,x,y\na.png,1,2\n", {"label_kind": "number"}, "be meant: 'x', 'y'"),
        ("list.csv", b"PK\x03\x04", {}, "is an Excel or zip file, and no text"),
        ("list.csv", b"image,label\n\x00\x01,a\n", {}, "holds bytes that are no text"),
        ("list.csv", b"image,label\n", {}, "has no rows"),
        ("list.csv", b"", {}, "has no columns: its first line names none"),
        ("list.csv", b"image,label,image\n", {}, "two columns 'image'"),
        ("list.csv", b'image,label\n"a.png,1\n', {}, "cannot be read as text with columns"),
        ("list.csv", b"image,label\n", {"split_column": "fold"}, "has no column 'fold'"),
        ("list.csv", b"image,label,fold\n", {"split_column": "fold"}, "has no rows"),
        ("list.parquet", b"image,label\n", {}, "cannot be read as parquet"),
        ("list.xlsx", b"", {}, "ends in '.xlsx'; .csv, .tsv, .tab, .txt, .parquet, .pq are read"),
        ("other.csv", None, {}, "other.csv' does not exist"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content, options, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        Table(str(tmp_path / name), **options).info  # noqa: B018
    assert name in str(caught.value)


def test_a_damaged_picture_is_named_when_it_is_read(home):
    source = written(home, ROWS)
    (home / "pictures/3.png").write_bytes(b"no picture")
    assert source.info.splits["test"] == 1
    with pytest.raises(DataError, match=r"pictures/3\.png"):
        source.split("test")[0]


def test_the_fingerprint_follows_labels_splits_and_pictures_but_not_place(home, tmp_path_factory):
    prints = [written(home, ROWS).info.fingerprint]
    copy = tmp_path_factory.mktemp("copy") / "there"
    shutil.copytree(home, copy)
    assert Table(str(copy / "list.csv")).info.fingerprint == prints[0]
    relabelled = [*ROWS[:3], (ROWS[3][0], "ant", "val"), ROWS[4]]
    prints.append(written(home, relabelled).info.fingerprint)
    prints.append(written(home, [*ROWS[:3], ROWS[4], (*ROWS[3][:2], "test")]).info.fingerprint)
    prints.append(written(home, [ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]]).info.fingerprint)
    Image.new("RGB", (5, 6)).save(home / "pictures/1.png")
    prints.append(written(home, ROWS).info.fingerprint)
    assert len(set(prints)) == len(prints)


def test_feature_transfer_over_a_table(home, monkeypatch):
    """By its reference, with splits cut; a channel tells the classes apart."""
    rows = [("image", "label")]
    for number in range(60):
        color = [0, 0, 0]
        color[number % 2] = 100 + number
        Image.new("RGB", (8, 8), tuple(color)).save(home / f"pictures/n{number}.png")
        rows.append((f"pictures/n{number}.png", ["red", "green"][number % 2]))
    written(home, rows)
    monkeypatch.chdir(home)
    run = finetune("list.csv", backbone=f"{toys.__file__}:ToyBackbone", strategy="feature_transfer")
    assert run["data"] == "table:list.csv"
    del run["augmentation"]
    result = tlx.run(run | {"batch_size": 10, "epochs": 20, "sink": []})
    assert result["test"]["accuracy"] > 0.9
    model = tlx.load("runs/list")
    assert model.classes == ("green", "red")
    said = model.predict(["pictures/n58.png", "pictures/n59.png"])
    assert [one["class"] for one in said] == ["red", "green"]


PAIRS = [("pictures/b 0.png", "bée"), ("pictures/1.png", "ant"), ("pictures/3.png", "ant")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
def test_what_divides_the_columns_is_found(home, delimiter, name):
    lines = [("image", "label"), *PAIRS]
    (home / name).write_text("\n".join(delimiter.join(line) for line in lines), encoding="utf-8")
    source = Table(str(home / name))
    assert source.info.classes == ("ant", "bée")
    assert [Path(source.split("train").called(i)).name for i in range(3)] == [
        "b 0.png", "1.png", "3.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings_of_spreadsheets_are_read(home, encoding):
    lines = ["sep=;", "Image ; LABEL", *(f'"{image}";{label}' for image, label in PAIRS), ""]
    (home / "list.csv").write_bytes("\r\n".join(lines).encode(encoding))
    source = Table(str(home / "list.csv"))
    assert source.info.classes == ("ant", "bée")
    assert any("Windows-1252" in note for note in source.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("image,label", None),
        ("path,class", "the pictures in 'path' and the labels in 'class'"),
        ("File Name,Category", "'File Name' and the labels in 'Category'"),
        ("filepath,target", "'filepath'"),
        ("img,y", "'img'"),
        ("where,what", "the pictures in 'where' and the labels in 'what'"),
    ],
)
def test_columns_are_known_by_usual_names_or_by_what_they_hold(home, header, said):
    source = written(home, [tuple(header.split(",")), *PAIRS])
    assert source.info.classes == ("ant", "bée")
    assert [said in note for note in source.notes] == [True] if said else source.notes == ()


@pytest.mark.parametrize(
    "way",
    [
        "{home}/pictures/b 0.png", "./pictures/b 0.png", "pictures\\b 0.png", "pictures/b%200.png",
        "file://{home}/pictures/b%200.png", "pictures/b 0", " pictures/b 0.png ", "{link}/b 0.png",
    ],
)  # fmt: skip
def test_a_path_within_the_folder_is_read_however_it_is_written(home, way, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(home / "pictures")
    path = way.format(home=home, link=link)
    source = written(home, [("image", "label"), (path, "bee"), ("pictures/1.png", "ant")])
    assert source.info.splits == {"train": 2}
    with Image.open(home / "pictures/b 0.png") as opened:
        np.testing.assert_array_equal(source.split("train")[0]["image"], np.asarray(opened))
    twice = written(home, [("image", "label"), (path, "bee"), ("pictures/b 0.png", "ant")])
    with pytest.raises(DataError, match="is listed already"):
        twice.info  # noqa: B018


def test_pictures_in_the_cells_of_parquet_are_read(home):
    """As the Hugging Face hub writes them: a structure of bytes and path, or bytes alone."""
    content = [(home / path).read_bytes() for path, _ in PAIRS]
    labels = [label for _, label in PAIRS]
    both = [{"bytes": b, "path": p} for b, (p, _) in zip(content, PAIRS, strict=True)]
    for name, cells in (("both", both), ("alone", content)):
        source = as_parquet(
            home, [("image", "label"), *zip(cells, labels, strict=True)], f"{name}.parquet"
        )
        assert source.info.classes == ("ant", "bée")
        for i, (path, _) in enumerate(PAIRS):
            with Image.open(home / path) as opened:
                np.testing.assert_array_equal(source.split("train")[i]["image"], np.asarray(opened))
    in_files = [{"bytes": None, "path": path} for path, _ in PAIRS]
    source = as_parquet(home, [("image", "label"), *zip(in_files, labels, strict=True)])
    assert source.split("train").called(1).endswith("pictures/1.png")
    prints = {Table(str(home / f"{name}.parquet")).info.fingerprint for name in ("both", "alone")}
    assert len(prints) == 1


def test_bytes_are_never_in_a_message(home):
    broken = [{"bytes": b"\x89PNG" + bytes(5000), "path": "a.png"}] * 2
    source = as_parquet(home, [("image", "label"), *zip(broken, "ab", strict=True)])
    with pytest.raises(DataError, match=r"Row 1 of .*\(a.png\)") as caught:
        source.split("train")[0]
    assert len(str(caught.value)) < 500
    swapped = as_parquet(
        home, [("image", "label"), *zip("ab", broken, strict=True)], image="label", label="image"
    )
    assert swapped.info.classes == ("a", "b")
    both = as_parquet(home, [("image", "label"), *zip(broken, [b"x" * 900] * 2, strict=True)])
    with pytest.raises(DataError, match=r"900 bytes \(bytes\)") as caught:
        both.info  # noqa: B018
    assert len(str(caught.value)) < 500


def test_a_parquet_of_datasets_keeps_its_names_of_classes(home):
    features = Features({"image": HubImage(), "label": ClassLabel(names=["bee", "ant"])})
    pictures = [{"bytes": (home / path).read_bytes(), "path": None} for path, _ in PAIRS]
    rows = Dataset.from_dict({"image": pictures, "label": [1, 0, 1]}, features)
    rows.to_parquet(str(home / "hub.parquet"))
    source = Table(str(home / "hub.parquet"), label_kind="class")
    assert source.info.classes == ("bee", "ant")
    assert source.split("train").labels.tolist() == [1, 0, 1]
    assert Table(str(home / "hub.parquet"), label_kind="number").info.classes == ()
