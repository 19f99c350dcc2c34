"""Rearranges folders of pictures as people have them: a program, see `tlx.testing.fuzzing`.

The good file is a list of what lies where, as JSON; a changed one is built as a folder, of which
`tlx data check` says what is in it. Names are other names of splits and classes, or odd ones, and
folders are deeper, doubled, empty, linked to one another, or full of other things than pictures.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
from pathlib import Path, PurePosixPath

from tlx_data.samples import picture

from tlx.commands import data
from tlx.testing.fuzzing import Input, main

SPLITS = [
    "train", "Train", "TRAIN", "training", "train2017", "val", "valid", "Valid", "validation",
    "dev", "test", "Test", "testing", "eval", "holdout", "unlabeled", "images", "photos", "extra",
    "all", "fold1", "0", "1",
]  # fmt: skip
CLASSES = [
    "cat", "Cat", "CAT", "dog", "dog.", "bird", "01", "1", "-1", "nan", "None", "true", "train",
    "class_a", "background",
]  # fmt: skip
ODD = [
    ".hidden", "__MACOSX", ".git", "@eaDir", "a b", " ", "a\nb", "é", "e\u0301", "ß", "ſ", "\udcff",
    "x" * 200, "*", "[a]", "{0..1}", "a,b", "a|b", "'", '"', "%2E", "~", "$HOME", "c.png", "-", "#",
    "a\\b", "😀", "\u202e", "\x1b[31m", "con", "...",
]  # fmt: skip
FILES = [
    "a.png", "A.PNG", "a.jpg", "a.JPEG", "a.jfif", "a.gif", "a.webp", "a.heic", "a.avif", "a.txt",
    "a.csv", "a.zip", "a.npz", "a", ".png", ".DS_Store", "._a.png", "Thumbs.db", "labels.csv",
    "desktop.ini", "README.md", "a.png.part", "a.svg", "a b.png", "é.png", "\udcff.png",
]  # fmt: skip
CONTENTS = ["0", "1", "2", "3", "empty", "text", "cut", "folder", "pipe"]
LINKS = [".", "..", "../..", "absent", "../cat", "../train", "0.png", "../dog/0.png", "../../val"]
OPTIONS = [
    ("layout", "splits"), ("layout", "classes"), ("layout", "auto"), ("splits", {"cat": "train"}),
    ("splits", {"dev": "ignore"}), ("splits", {"holdout": "test", "train": "train"}),
    ("splits", {"val": "train"}), ("val", 0.5), ("val", 1), ("shots", 1), ("limit", 2),
    ("unreadable", "skip"), ("sampling", "balanced"), ("test", 0.0),
]  # fmt: skip
LAYOUTS = {
    "classes": [f"{label}/{n}" for label in ("cat", "dog") for n in range(4)],
    "splits": [
        f"{split}/{label}/{n}"
        for split in ("train", "val", "test") for label in ("cat", "dog") for n in range(2)
    ],
    "deeper": [f"{label}/{part}/{n}" for label in ("a", "b", "c") for part in "xy" for n in "01"],
}  # fmt: skip


def layout(places, options):
    """Where each picture lies, and which it is; no two splits have one in common."""
    entries = [[f"{place}.png", str(number)] for number, place in enumerate(places)]
    return {"entries": entries, "options": options}


def changed(draw, data, other):
    """One to six changes that a person, a tool or a file system makes to a folder."""
    plan = json.loads(data)
    for _ in range(draw.choice([1, 1, 2, 3, 6])):
        change = draw.choice([folder_called, folder_called, file_called, moved, added, fewer])
        if draw.random() < 0.15:
            name, value = draw.choice(OPTIONS)
            plan["options"][name] = value
        elif plan["entries"]:
            plan["entries"] = change(draw, plan["entries"])
    return json.dumps(plan).encode()


def folder_called(draw, entries):
    """A folder with another name; a case clash or two folders in one among them."""
    parts = PurePosixPath(draw.choice(entries)[0]).parts[:-1]
    if not parts:
        return entries
    place = draw.randrange(len(parts))
    name = draw.choice(draw.choice([SPLITS, CLASSES, ODD, FILES]))
    old = "/".join(parts[: place + 1])
    new = "/".join((*parts[:place], name))
    return [
        [new + path[len(old) :] if path.startswith(old + "/") else path, what]
        for path, what in entries
    ]


def file_called(draw, entries):
    """A file with another name, or with something else in it."""
    at = draw.randrange(len(entries))
    path, what = PurePosixPath(entries[at][0]), entries[at][1]
    if draw.random() < 0.5:
        path = path.with_name(draw.choice(draw.choice([FILES, ODD])))
    else:
        what = draw.choice([*CONTENTS, *(f"-> {link}" for link in LINKS)])
    return [*entries[:at], [str(path), what], *entries[at + 1 :]]


def moved(draw, entries):
    """All of it in a folder of its own, or a folder of it up, down or copied."""
    top = PurePosixPath(draw.choice(entries)[0]).parts[0]
    name = draw.choice(draw.choice([SPLITS, CLASSES, ODD]))
    inside = [entry for entry in entries if entry[0].startswith(top + "/")]
    match draw.randrange(4):
        case 0:
            return [[f"{name}/{path}", what] for path, what in entries]
        case 1:
            return [[path.partition("/")[2] or path, what] for path, what in entries]
        case 2:
            down = [[f"{top}/{name}/{path.partition('/')[2]}", what] for path, what in inside]
            return [entry for entry in entries if entry not in inside] + down
        case _:
            return entries + [[f"{name}/{path.partition('/')[2]}", what] for path, what in inside]


def added(draw, entries):
    """Something beside what is there: a file, an empty folder, a link, a loop."""
    place = PurePosixPath(draw.choice(entries)[0]).parent
    for _ in range(draw.randrange(3)):
        place = place.parent
    name = draw.choice(draw.choice([FILES, SPLITS, CLASSES, ODD]))
    what = draw.choice([*CONTENTS, *(f"-> {link}" for link in LINKS)])
    return [*entries, [str(place / name), what]]


def fewer(draw, entries):
    """One picture, one class, or nothing; or a part of it lost."""
    first = PurePosixPath(draw.choice(entries)[0]).parts[0]
    match draw.randrange(4):
        case 0:
            return [draw.choice(entries)]
        case 1:
            return [entry for entry in entries if entry[0].startswith(first)]
        case 2:
            return [entry for entry in entries if not entry[0].startswith(first)]
        case _:
            return [entry for entry in entries if draw.random() < 0.7]


def build(entries, root):
    """The folder; what cannot be there, such as a file inside of a file, is left out."""
    root.mkdir()
    for path, what in entries:
        with contextlib.suppress(OSError):
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if what != "folder":  # what is written to a pipe, or through a link, is not there
                place.unlink(missing_ok=True)
            if what.startswith("-> "):
                place.symlink_to(what[3:])
            elif what == "folder":
                place.mkdir(exist_ok=True)
            elif what == "pipe":
                os.mkfifo(place)
            else:
                whole = {"empty": b"", "text": b"some text\n", "cut": picture(0)[:40]}
                place.write_bytes(whole[what] if what in whole else picture(int(what)))


def checked(path):
    plan = json.loads(path.read_bytes())
    root = path.parent / "photos"
    shutil.rmtree(root, ignore_errors=True)
    build(plan["entries"], root)
    sets = [f"data.{name}={json.dumps(value)}" for name, value in plan["options"].items()]
    sets = [f"{one.replace(': ', ' = ')}" for one in sets]  # a table as TOML has it
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")):
        data.check(
            argparse.Namespace(
                source=str(root), head=None, backbone=None, weights=None, sheet=None, limit=None,
                json=len(plan["entries"]) % 2 == 0, set=sets,
            )
        )  # fmt: skip


def inputs(folder: Path):
    for name, places in LAYOUTS.items():
        said = {"layout": "classes"} if name == "deeper" else {}  # which it could not see
        text = json.dumps(layout(places, said)).encode()
        yield Input(folder / f"{name}.json", text, changed, checked)


if __name__ == "__main__":
    main(inputs)
