"""Which example is in which split: written once, whole, and held against the data on a resume."""

import csv
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

import tlx
from tlx import loop
from tlx.data.splits import Subset
from tlx.errors import CheckpointError, Interrupted
from tlx.run_folder import membership


@dataclass(eq=False)
class Files:
    """A split that knows its files, one of them with a name that CSV has to quote."""

    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        raise AssertionError("no picture is read")

    def called(self, index):
        return f'a,b"{index}\n.png'


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_says_where_an_example_is(tmp_path):
    pool = Subset(Files(np.asarray([1, 0, 1, 1])), np.asarray([3, 2, 1, 0]))
    many = Subset(Files(np.eye(2, dtype=int)[[0, 1]] | [[0, 1], [0, 0]]), np.arange(2), "test")
    plain = Subset(np.zeros(2), np.asarray([1]), "val")
    plain.__dict__["labels"] = np.asarray([0.25])
    classes = ("ant", "bee")
    path = tmp_path / "split.csv"
    splits = {
        "train": (Subset(pool, np.asarray([0, 2])), classes),
        "val": (plain, ()),
        "test": (many, classes),
    }
    membership.keep(path, splits)
    assert [tuple(row.values()) for row in read(path)] == [
        ("train", "train", "3", "bee", 'a,b"3\n.png'),
        ("train", "train", "1", "ant", 'a,b"1\n.png'),
        ("val", "val", "1", "0.25", ""),
        ("test", "test", "0", "ant;bee", 'a,b"0\n.png'),
        ("test", "test", "1", "bee", 'a,b"1\n.png'),
    ]
    assert list(read(path)[0]) == ["split", "source", "index", "label", "file"]
    before = path.read_bytes()
    membership.keep(path, splits)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["split.csv"]


def subset(labels, indices):
    return Subset(Files(np.asarray(labels)), np.asarray(indices))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (([0, 1, 0], [0, 1]), ([0, 1, 0], [0, 2]), r"2 examples then, 2 now; .* is gone from it"),
        (([0, 1, 0], [0, 1]), ([0, 1, 0], [0, 1, 2]), r"'x' is new in it"),
        (([0, 1, 0], [0, 1]), ([1, 1, 0], [0, 1]), r"'x' is gone from it"),
        (([0, 1, 0], [0, 1]), ([0, 1, 0], [1, 0]), r"'y' is where another one was"),
    ],
)
def test_the_split_that_changed_is_named(tmp_path, then, now, said):
    test = subset([0, 0], [1]), ("x", "y")
    membership.keep(tmp_path / "split.csv", {"test": test, "val": (subset(*then), ("x", "y"))})
    with pytest.raises(CheckpointError, match=r"the val split is not .*(?s:.*)" + said):
        membership.keep(tmp_path / "split.csv", {"test": test, "val": (subset(*now), ("x", "y"))})


@pytest.mark.parametrize("content", ["", "split,source\n", "split,source,index,label,file\na,b\n"])
def test_a_damaged_table_is_no_table(tmp_path, content):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(CheckpointError, match=r"split\.csv is damaged.*--overwrite"):
        membership.keep(tmp_path / "split.csv", {"val": (subset([0], [0]), ("x",))})


def test_a_resumed_run_on_other_data_is_refused(tiny, pictures, tmp_path, monkeypatch):
    @contextmanager
    def interruptible():
        yield lambda: True

    there = tmp_path / "own.npz"
    there.write_bytes(pictures.read_bytes())
    table = tiny(data={"name": "npz", "path": str(there), "val": 21})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "interruptible", interruptible)
        with pytest.raises(Interrupted):
            tlx.run(table, out=tmp_path / "run")
    rows = read(tmp_path / "run" / "split.csv")
    sizes = {name: sum(row["split"] == name for row in rows) for name in ("train", "val", "test")}
    assert sizes == {"train": 69, "val": 21, "test": 50}
    held = dict(np.load(pictures))
    for row in rows:
        own = "y_test" if row["split"] == "test" else "y_train"
        assert row["source"] == own[2:]
        assert row["label"] == held["class_names"][held[own][int(row["index"])]]
    numbers = [{row["index"] for row in rows if row["split"] == name} for name in ("train", "val")]
    assert not numbers[0] & numbers[1]

    held["y_test"] = np.roll(held["y_test"], 1)
    np.savez(there, **held)
    with pytest.raises(CheckpointError, match=r"data\.fingerprint .*(train|test)\[\d+\] was"):
        tlx.run(table, out=tmp_path / "run", resume=True)
    there.write_bytes(pictures.read_bytes())
    assert tlx.run(table, out=tmp_path / "run", resume=True)["steps"] == 12
