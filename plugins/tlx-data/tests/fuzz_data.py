"""Mutates data sets in files: a program, see `tlx.testing.fuzzing`.

The npz, tables (CSV and parquet) with their pictures, and tar shards are opened, asked what they
are, and read to their last example.
"""

import csv
import io
import tarfile
import zipfile

import numpy as np
from tlx_data import samples
from tlx_data.npz import Npz
from tlx_data.table import Table
from tlx_data.webdataset import WebDataset

from tlx.testing.fuzzing import Input, argument, changed_bytes, main


def whole(source):
    """Everything that a run would ask for."""
    for name in source.info.splits:
        split = source.split(name)
        assert len(split) == len(split.labels) == source.info.splits[name]
        for number in range(len(split)):
            example = split[number]
            assert example["image"].ndim == 3
            assert example["image"].shape[2] == 3


def changed_archive(draw, data, other):
    """A member changed, renamed, dropped or doubled, and packed again so that the sum is right."""
    if draw.random() < 0.3:
        return changed_bytes(draw, data, other)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [[name, archive.read(name)] for name in archive.namelist()]
    part = draw.choice(parts)
    match draw.randrange(6):
        case 0:
            names = [*(name for name, _ in parts), "../x_train.npy", "/x_train.npy", "x_val.npy"]
            part[0] = draw.choice(names)
        case 1:
            parts.remove(part)
        case 2:
            parts.append([part[0], draw.choice(parts)[1]])
        case 3:
            part[1] = draw.choice(parts)[1]
        case _:
            part[1] = changed_bytes(draw, part[1], other)
    packed = io.BytesIO()
    method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return packed.getvalue()


def changed_table(draw, data, other):
    """Cells in other places, or with something else in them."""
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    for _ in range(draw.choice([1, 1, 2, 5])):
        row = draw.choice(rows)
        at = draw.randrange(len(row))
        odd = [
            "",
            "../a.png",
            "/etc/passwd",
            "a\0b",
            "1.5",
            "-1",
            "nan",
            "1e400",
            "9" * 30,
            "x" * 500,
        ]
        odd += [",", '"', "\n", "train", "test", "ſ", "."]
        odd += ["a|b", "[1, 2]", "['a']", "1,5", "NA", "True", "0", "1", "01", "3.10", "²"]
        odd += ["split", "fold", "is_valid", "label", "class", "x", "y", "train0", "train0%2Epng"]
        match draw.randrange(4):
            case 0:
                row[at] = draw.choice(odd)
            case 1:
                row[at] = draw.choice(draw.choice(rows) or [""])
            case 2:
                rows.append(list(row))
            case _:
                row.insert(at, draw.choice(odd))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def changed_tar(draw, data, other):
    """A header's field, with a sum that is right again."""
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    changed = bytearray(data)
    headers = range(0, len(data), 512)
    at = draw.choice([n for n in headers if data[n + 257 : n + 262] == b"ustar"])
    begin, size = draw.choice([(0, 100), (100, 8), (124, 12), (156, 1), (157, 100), (345, 155)])
    odd = [
        b"../../etc/passwd",
        b"/etc/passwd",
        b"000.png",
        b"0",
        b"1",
        b"2",
        b"5",
        b"g",
        b"x",
        b"L",
    ]
    odd += [
        b"S",
        b"77777777777",
        b"-0000000001",
        b"\x80" + b"\xff" * 10,
        b"\xff" * 12,
        argument(draw),
    ]
    field = draw.choice(odd)[:size]
    changed[at + begin : at + begin + size] = field.ljust(size, b"\0")
    changed[at + 148 : at + 156] = b" " * 8
    total = sum(changed[at : at + 512])
    changed[at + 148 : at + 156] = f"{total:06o}\0 ".encode()
    return bytes(changed)


def shards():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(6):
            label = ("txt", b"other") if number == 5 else ("cls", str(number % 2).encode())
            if number == 4:
                label = ("json", b'{"label": 0, "of": "x"}')
            picture = ("png", samples.picture(number)) if number < 5 else ("cap", b"")
            for ending, content in (picture, label):
                member = tarfile.TarInfo(f"folder/{number:03d}.{ending}")
                member.size = len(content)
                if number == 3:
                    member.pax_headers = {"comment": "of no use"}
                tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def inputs(folder):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 4, 4, 3), np.uint8), "y_train": np.arange(6) % 2,
        "x_test": rng.random((3, 4, 4), np.float32), "y_test": np.arange(3)[:, None] % 2,
        "class_names": np.asarray(["a", "bé"]),
    }  # fmt: skip
    for name, save in (("plain", np.savez), ("packed", np.savez_compressed)):
        file = io.BytesIO()
        save(file, **arrays)
        yield Input(
            folder / f"{name}.npz", file.getvalue(), changed_archive,
            lambda path: whole(Npz(str(path))),
        )  # fmt: skip
    home = folder / "table"
    table = samples.table(folder)["path"]
    with open(table, "rb") as stream:
        text = stream.read()
    yield Input(home / "pictures.csv", text, changed_table, lambda path: whole(Table(str(path))))
    yield Input(
        home / "numbers.csv", b"image,label\ntrain0.png,0.5\ntrain1.png,1e3\n", changed_table,
        lambda path: whole(Table(str(path))),
    )  # fmt: skip
    for kind, header, cells in (
        ("class", "image;Label;fold", ("01;train", "1;train", "01;test")),
        ("multilabel", "path\ttags\tis_valid", ("a|b\t0", "b\t1", "[]\t0")),
        ("number", "image,x,y", ("1,2.5", "3,7", "1e3,0")),
    ):
        between = header.replace("image", "").replace("path", "")[:1]
        lines = [header, *(f"train{i}.png{between}{cell}" for i, cell in enumerate(cells))]

        def of_kind(path, kind=kind):
            label = ("x", "y") if kind == "number" else None
            whole(Table(str(path), label_kind=kind, label=label))

        yield Input(home / f"{kind}.csv", "\n".join(lines).encode(), changed_table, of_kind)
    from pyarrow import Table as Columns
    from pyarrow import parquet

    rows = list(csv.DictReader(io.StringIO(text.decode())))
    file = io.BytesIO()
    parquet.write_table(Columns.from_pylist(rows), file)
    yield Input(
        home / "pictures.parquet", file.getvalue(), changed_bytes,
        lambda path: whole(Table(str(path))),
    )  # fmt: skip
    shard = folder / "shards" / "000.tar"
    yield Input(shard, shards(), changed_tar, lambda path: whole(WebDataset(str(path))))
    classes = folder / "named" / "classes.txt"

    def named(path):
        whole(WebDataset(str(path.with_name("000.tar"))))

    classes.parent.mkdir(parents=True, exist_ok=True)
    classes.with_name("000.tar").write_bytes(shards())
    yield Input(classes, b"dark\nbright\n", changed_bytes, named)


if __name__ == "__main__":
    main(inputs)
