"""Writes tables as people have them: a program, see `tlx.testing.fuzzing`.

The good file says in JSON what the columns are called, what stands in them, and how it is written;
a changed one is spelt, divided and encoded otherwise, or lacks something. Each is opened for a head
of every kind, cut into splits and looked through, as a run does before it trains.
"""

import io
import json

import numpy as np
import pyarrow
from pyarrow import parquet
from tlx_data.samples import picture
from tlx_data.table import Table
from tlx_table import RowInput

from tlx.data import data_check
from tlx.data.inputs import bind_inputs, fit_inputs
from tlx.planning import label_refusals, refusals, splitting
from tlx.run_file.run_config import DataConfig, Part
from tlx.testing.fuzzing import Input, main

HEADS = {"softmax": "class", "multilabel": "multilabel", "regression": "number"}
COLUMNS = {
    "image": ["image", "path", "file_name", "Filename", "img", "id", "", "image ", "\ufeffimage"],
    "label": ["label", "Label", "class", "target", "y", "price", "labels", "", "split", "category"],
    "split": ["split", "Split", "is_valid", "fold", "set", "subset", "", "label", "is_test"],
    "more": ["x", "y", "weight", "image", "label_2", "Unnamed: 0", "id"],
}
CELLS = {
    "image": [
        "0.png", "./1.png", "sub/2.png", "sub\\3.png", "/etc/passwd", "../0.png", "absent.png", "",
        "0", "0.PNG", "HOME/4.png", "file.txt", "sub", " 5.png", "6.png ", "http://x/7.png",
        "ü.png",
    ],
    "label": [
        "cat", "dog", "Cat", " cat", "01", "1", "1.0", "3.10", "-1", "1e3", "1,5", "1.234,5", "",
        "NA", "nan", "None", "inf", "true", "False", "a|b", "b|a", "a|", "|", "[]", "[1, 0]",
        "['a', 'b']", "a,b", "a;b", "\u0000", "9" * 40, "1_000", "$5", "50%", "2024-01-01", "²",
    ],
    "split": [
        "train", "test", "val", "Train", "TEST", "valid", "0", "1", "2", "True", "False", "", "NA",
        "training", "dev", "unlabeled", "fold1", "1.0", "yes",
    ],
}  # fmt: skip
TYPES = [int, float, bool, str.encode, str.split, lambda text: None, lambda text: {"path": text}]
OPTIONS = [
    ("label", "x"), ("label", ["x", "y"]), ("image", "path"), ("split_column", False),
    ("split_column", "fold"), ("class_names", ["cat", "dog"]), ("class_names", ["01", "1"]),
    ("label_separator", ","), ("label_separator", ""), ("val_values", ["0"]), ("root", "HOME/sub"),
    ("test_values", ["1", "test"]), ("fields", {"row": {}}), ("fields", {"image": {}, "row": {}}),
    ("fields", {"row": {"columns": ["x"]}, "label": {"column": "label"}}), ("image", "x"),
]  # fmt: skip
CUTS = [("shots", 1), ("limit", 1), ("val", 2), ("sampling", "balanced"), ("unreadable", "skip")]


def plan(labels, name="label", splits=None, **written):
    rows = [[f"{number}.png", label] for number, label in enumerate(labels)]
    header = ["image", name]
    if splits:
        header, rows = [*header, "split"], [[*r, s] for r, s in zip(rows, splits, strict=True)]
    how = {"separator": ",", "encoding": "utf-8", "end": "\n", "quote": "", "types": {}} | written
    return {"header": header, "rows": rows, "options": {}, "cut": {}, **how}


GOOD = {
    "classes": plan(["cat", "dog"] * 5),
    "codes": plan(["01", "1"] * 5, "Label", ["train"] * 6 + ["test"] * 2 + ["val"] * 2),
    "several": plan(["a|b", "b", "a", "a|c", "c"] * 2, "tags", head="multilabel"),
    "prices": plan(["1.5", "3", "1e2", "7", "8.25"] * 2, "price", head="regression"),
    "binary": plan(["cat", "dog"] * 5, parquet=True),
}


def changed(draw, data, other):
    """One to five changes of how it is written, of what stands in it, or of what is asked."""
    made = json.loads(data)
    for _ in range(draw.choice([1, 1, 2, 3, 5])):
        draw.choice([cell, cell, cell, column, column, way, said, shape])(draw, made)
    return json.dumps(made).encode()


def kind_of(made, at):
    return ["image", "label", "split", "more"][min(at, 3)]


def cell(draw, made):
    if not made["rows"]:
        return
    row = draw.choice(made["rows"])
    if row:
        at = draw.randrange(len(row))
        found = CELLS.get(kind_of(made, at), CELLS["label"])
        row[at] = draw.choice(found)


def column(draw, made):
    """A column with another name, with other cells, new or lost."""
    at = draw.randrange(len(made["header"]) + 1)
    kind = kind_of(made, at)
    cells = CELLS.get(kind, CELLS["label"])
    few = draw.sample(cells, draw.choice([1, 2, 3]))
    if at == len(made["header"]):
        made["header"].append(draw.choice(COLUMNS[kind]))
        for row in made["rows"]:
            row.append(draw.choice(few))
    elif (chance := draw.random()) < 0.5:
        made["header"][at] = draw.choice(COLUMNS[kind])
    elif chance < 0.8 and at:
        for row in made["rows"]:
            row[at:] = [draw.choice(few), *row[at + 1 :]]
    elif len(made["header"]) > 1:
        del made["header"][at]
        for row in made["rows"]:
            del row[at : at + 1]


def way(draw, made):
    """Another separator, encoding, end of a line, or type of a column of parquet."""
    match draw.randrange(6):
        case 0:
            made["separator"] = draw.choice([",", ";", "\t", "|", ", ", " ", ""])
        case 1:
            made["encoding"] = draw.choice(["utf-8-sig", "latin-1", "utf-16", "cp1252", "utf-32"])
        case 2:
            made["end"] = draw.choice(["\r\n", "\r", "\n\n", ""])
        case 3:
            made["quote"] = draw.choice(['"', "'"])
        case 4:
            made["parquet"] = not made.get("parquet", False)
        case _:
            made["types"][str(draw.randrange(3))] = draw.randrange(len(TYPES))


def said(draw, made):
    """An option, or another head."""
    if draw.random() < 0.3:
        made["head"] = draw.choice([None, *HEADS])
    elif draw.random() < 0.3:
        name, value = draw.choice(CUTS)
        made["cut"][name] = value
    else:
        name, value = draw.choice(OPTIONS)
        made["options"][name] = value


def shape(draw, made):
    """Rows doubled, lost, cut short or too long; or no row at all."""
    rows = made["rows"]
    match draw.randrange(5):
        case 0 if rows:
            rows.append(list(draw.choice(rows)))
        case 1:
            del rows[draw.randrange(len(rows) + 1) :]
        case 2 if rows and rows[0]:
            draw.choice(rows)[-1:] = []
        case 3 if rows:
            draw.choice(rows).append("more")
        case _:
            rows.append([])


def written(made, home):
    """The file's bytes."""
    header = [name.replace("HOME", str(home)) for name in made["header"]]
    rows = [[text.replace("HOME", str(home)) for text in row] for row in made["rows"]]
    if made.get("parquet"):
        names = dict.fromkeys(header)  # no column twice
        cells = {
            name: [
                typed(made["types"].get(str(at)), row[at] if at < len(row) else None)
                for row in rows
            ]
            for at, name in enumerate(names)
        }
        file = io.BytesIO()
        try:
            parquet.write_table(pyarrow.table(cells), file)
        except (pyarrow.ArrowException, TypeError, OverflowError):  # of several types
            texts = {name: list(map(str, column)) for name, column in cells.items()}
            parquet.write_table(pyarrow.table(texts), file)
        return file.getvalue()
    quote, between = made["quote"], made["separator"]
    lines = [between.join(f"{quote}{text}{quote}" for text in row) for row in (header, *rows)]
    return made["end"].join(lines).encode(made["encoding"], "replace")


def typed(which, text):
    try:
        return text if which is None or text is None else TYPES[which](text)
    except ValueError:
        return None


def checked(path):
    made, home = json.loads(path.read_bytes()), path.parent / "pictures"
    ending = ".parquet" if made.get("parquet") else ".csv"
    table = home / f"table{ending}"
    table.write_bytes(written(made, home))
    head = made.get("head")
    options = json.loads(json.dumps(made["options"]).replace("HOME", str(home)))
    lists = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    source = Table(str(table), label_kind=HEADS.get(head), **lists)
    config = DataConfig(name="table", **made["cut"])
    cut, info = splitting.cut(source, config), source.info
    if head:
        label_refusals.fitted(Part(head), info, cut.train.labels)
    refusals.classes(cut, info, Part(head) if head else None)
    found = data_check.check(cut.parts, info)
    assert all(finding.said().encode() for finding in found.findings)
    assert np.isfinite(np.asarray(cut.train.labels, np.float64)).all()
    if "row" in info.fields:
        (port,) = fit_inputs(bind_inputs(RowInput(), info), info, cut.train)
        for part in cut.parts.values():
            for number in range(len(part)):
                arrays = port.input.encode(part[number]["row"], name="A row")
                assert all(np.isfinite(leaf).all() for leaf in arrays.values())


def inputs(folder):
    (folder / "pictures" / "sub").mkdir(parents=True)
    for number in range(10):
        for place in ("", "sub"):
            name = folder / "pictures" / place / f"{number}.png"
            name.write_bytes(picture(number + 20 * bool(place)))
    (folder / "pictures" / "file.txt").write_text("x")
    for name, made in GOOD.items():
        yield Input(folder / f"{name}.json", json.dumps(made).encode(), changed, checked)


if __name__ == "__main__":
    main(inputs)
