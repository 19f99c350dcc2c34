"""Tar shards, held against tarfile and Pillow."""

import gzip
import io
import json
import shutil
import tarfile

import datasets
import numpy as np
import pytest
from PIL import Image
from tlx_data.webdataset import WebDataset

from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled, Noted
from tlx.run_file.finetune import table as finetune


def encoded(shade, kind="PNG"):
    file = io.BytesIO()
    pixels = np.full((6, 5, 3), shade, np.uint8)
    pixels[::2] //= 3
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pack(path, files, **options):
    """A tar file of (name, bytes), written by tarfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pairs(labels, start=0, ending="png"):
    """KEY.png and KEY.cls for each label."""
    kind = {"jpg": "JPEG", "jpeg": "JPEG"}.get(ending, ending.upper())
    for number, label in enumerate(labels, start):
        yield f"{number:04d}.cls", str(label).encode()
        yield f"{number:04d}.{ending}", encoded(number * 10 % 256, kind)


def members(path, ending):
    """Every picture of a shard as tarfile and Pillow read it, in order."""
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            if member.name.endswith(ending):
                with Image.open(archive.extractfile(member)) as opened:
                    yield np.asarray(opened.convert("RGB"))


def refused(source, said):
    with pytest.raises(DataError, match=said) as caught:
        source.info  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "webp"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(tmp_path, ending, form):
    long = "deep/" * 25 + "ä" * 40
    first = [*pairs(["bee", "ant"], ending=ending)]
    second = [(f"./folder.v1/{name}", content) for name, content in pairs(["ant"], 7, ending)]
    if form != tarfile.USTAR_FORMAT:  # which ends at 255 bytes
        second += [(f"{long}.{name[5:]}", c) for name, c in pairs(["bee"], 9, ending)]
    shards = [
        pack(tmp_path / f"{n}.tar", files, format=form) for n, files in enumerate((first, second))
    ]
    source = WebDataset(str(tmp_path / "{0..1}.tar"))
    assert isinstance(source, DataSource)
    assert isinstance(source, Noted)
    assert source.info.classes == ("ant", "bee")
    split = source.split("train")
    assert isinstance(split, Labelled)
    expected = [picture for shard in shards for picture in members(shard, ending)]
    assert len(split) == len(expected) == source.info.splits["train"]
    for index in reversed(range(len(split))):
        np.testing.assert_array_equal(split[index]["image"], expected[index])
    assert split.labels.tolist() == [1, 0, 0, 1][: len(split)]
    assert split.keys[2] == "./folder.v1/0007"
    assert source.notes == ()


def test_examples_are_those_of_datasets(tmp_path, monkeypatch):
    """Another reader of the same format."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for shard, labels in enumerate(([1, 0, 2], [2, 0])):
        pack(tmp_path / f"{shard}.tar", pairs(labels, start=3 * shard))
    theirs = datasets.load_dataset(
        "webdataset", data_files=[str(tmp_path / f"{n}.tar") for n in range(2)], split="train"
    )
    split = WebDataset(str(tmp_path / "{0..1}.tar")).split("train")
    assert list(split.keys) == theirs["__key__"][:]
    assert split.labels.tolist() == theirs["cls"][:] == [1, 0, 2, 2, 0]
    for index in range(5):
        np.testing.assert_array_equal(split[index]["image"], theirs[index]["png"])


def test_splits_have_shards_of_their_own(tmp_path):
    for name, labels in (("train-00", [0, 1]), ("train-01", [1]), ("val-00", [1]), ("t", [0, 0])):
        pack(tmp_path / f"{name}.tar", pairs(labels))
    source = WebDataset(
        str(tmp_path / "train-*.tar"),
        val_path=str(tmp_path / "val-{00..00}.tar"),
        test_path=str(tmp_path / "t.tar"),
    )
    assert source.info.splits == {"train": 3, "val": 1, "test": 2}
    assert source.info.classes == ("0", "1")
    assert source.split("train").labels.tolist() == [0, 1, 1]
    again = WebDataset(str(tmp_path / "{0..1}.tar"), val_path=str(tmp_path / "[t].tar"))
    refused(again, "There is no shard .*/0.tar'. Shards are local tar files")
    both = WebDataset(str(tmp_path / "train-*.tar"), test_path=str(tmp_path / "*-01.tar"))
    refused(both, "train-01.tar' is in 'train' and in 'test'")
    refused(WebDataset(str(tmp_path / "{3..1}.tar")), r"runs backwards: \{3\.\.1\}")
    refused(WebDataset(str(tmp_path / "train-{00..02}.tar")), "no shard .*train-02.tar")
    shutil.copy(tmp_path / "t.tar", tmp_path / "[t].tar")
    assert WebDataset(str(tmp_path / "[t].tar"), class_names=("a", "b")).info.splits["train"] == 2


def test_two_ranges_are_every_combination(tmp_path):
    for part in "12":
        for number in ("09", "10"):
            pack(tmp_path / f"{part}/{number}.tar", pairs([0, int(part) - 1]))
    source = WebDataset(str(tmp_path / "{1..2}/{09..10}.tar"))
    assert [str(s.relative_to(tmp_path)) for s in source.split("train").shards] == [
        "1/09.tar", "1/10.tar", "2/09.tar", "2/10.tar",
    ]  # fmt: skip


def test_labels_of_json_and_the_order_of_classes(tmp_path):
    def described(labels):
        for number, label in enumerate(labels):
            yield f"{number}.jpg", encoded(number, "JPEG")
            yield f"{number}.json", json.dumps({"label": label, "width": 5}).encode()

    names = pack(tmp_path / "names.tar", described(["wasp", "bee", "wasp"]))
    assert WebDataset(str(names)).split("train").labels.tolist() == [1, 0, 1]
    numbers = pack(tmp_path / "numbers.tar", described([0, 1, 0]))
    targets = pack(tmp_path / "targets.tar", described([0.5, 1, -2e-3]))
    assert WebDataset(str(targets)).info.classes == ()
    np.testing.assert_allclose(WebDataset(str(targets)).split("train").labels, [0.5, 1, -2e-3])
    option = WebDataset(str(numbers), class_names=("wasp", "bee"))
    (tmp_path / "classes.txt").write_text("wasp\nbee\n\n", encoding="utf-8")
    beside = WebDataset(str(numbers))
    assert beside.info == option.info
    assert beside.info.classes == ("wasp", "bee")
    assert WebDataset(str(names)).split("train").labels.tolist() == [0, 1, 0]
    (tmp_path / "classes.txt").write_text("wasp\n\nbee\n", encoding="utf-8")
    refused(WebDataset(str(numbers)), "classes.txt' holds an empty name")
    (tmp_path / "classes.txt").write_bytes(b"\xff")
    refused(WebDataset(str(numbers)), "classes.txt' is no UTF-8 text")


def test_a_text_label_goes_before_json_and_other_members_are_counted(tmp_path):
    extra = [
        ("0000.json", b"[]"), ("0000.txt", b"x"), ("0001.txt", b"x"), ("0001.seg.png", b"x"),
        ("._0001.png", b"x"), ("README", b"x"), ("about.json", b"no json"),
    ]  # fmt: skip
    source = WebDataset(str(pack(tmp_path / "a.tar", [*pairs([0, 1]), *extra])))
    assert source.info.splits == {"train": 2}
    (note,) = source.notes
    assert note.startswith("5 files in the shards with other endings ('.txt', ")
    assert ".seg.png" in note


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "hold no picture. An example is KEY with one of .jpg, .jpeg, .png, .webp"),
        ([("a.txt", b"x")], "hold no picture"),
        ([("a.png", encoded(1))], "holds 'a.png', but no a.cls or a.json beside it"),
        ([("a.cls", b"1")], "holds 'a.cls', but no picture 'a' beside it"),
        ([("a.png", b""), ("a.jpg", b""), ("a.cls", b"1")], "'a.jpg', 'a.png' under one key"),
        ([("a.png", b""), ("a.png", b""), ("a.cls", b"1")], "holds 'a.png' twice"),
        ([("a.png", b""), ("a.cls", b" \n")], r"^The picture 'a' of '.*a.tar' has no label"),
        ([("a.png", b""), ("a.cls", b"\xff")], "no label that can be read in 'a.cls'"),
        ([("a.png", b""), ("a.cls", bytes(2**20 + 1))], "a label 'a.cls' of 1048577 bytes"),
        ([("a.png", b""), ("a.json", b"{}")], "no label that can be read in 'a.json'.*'label'"),
        ([("a.png", b""), ("a.json", b"[1]")], "no label that can be read in 'a.json'"),
        ([("a.png", b""), ("a.json", b"[" * 100_000)], "no label that can be read in 'a.json'"),
        ([("a.png", b""), ("a.json", b'{"label": {"a": "b"}}')], "'b', which is no finite number"),
        ([("a.png", b""), ("a.json", b'{"label": NaN}')], "has no label"),
        ([*pairs([0, -1])], "has the label -1; classes are numbered from 0"),
    ],
)  # fmt: skip
def test_examples_that_lack_a_part_are_refused(tmp_path, files, said):
    refused(WebDataset(str(pack(tmp_path / "a.tar", files))), said)


@pytest.mark.parametrize(
    ("mode", "kind"), [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd")]
)
def test_compressed_shards_are_refused(tmp_path, mode, kind):
    path = tmp_path / "a.tar"
    if mode == "zst":
        path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(1024))
    else:
        with tarfile.open(path, f"w:{mode}"):
            pass
    refused(WebDataset(str(path)), rf"a.tar' is compressed \({kind}\), so that a picture cannot")


def test_names_are_never_paths(tmp_path, monkeypatch):
    """Names that would leave the folder, were they extracted, are names like others."""
    monkeypatch.chdir(tmp_path)
    files = [("../../up.png", encoded(9)), ("../../up.cls", b"0"), ("/a.png", encoded(5)),
             ("/a.cls", b"1")]  # fmt: skip
    path = pack(tmp_path / "in/a.tar", files)
    split = WebDataset(str(path)).split("train")
    assert [split[i]["image"].max() for i in range(2)] == [9, 5]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = pack(tmp_path / "a.tar", pairs([0, 1]))
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("b.png")
        member.type, member.linkname = kind, "0000.png"
        archive.addfile(member)
    refused(WebDataset(str(path)), "holds 'b.png' as a link, device or sparse file")


def test_a_shard_that_is_cut_anywhere_is_refused(tmp_path):
    """Between members, too, where tarfile alone would read a shorter archive in silence."""
    whole = pack(tmp_path / "whole.tar", pairs([0, 1, 1])).read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512
    path = tmp_path / "a.tar"
    for length in [*range(0, end + 1, 128), end + 511]:
        path.write_bytes(whole[:length])
        refused(WebDataset(str(path)), "a.tar'")
    path.write_bytes(whole[: end + 512])
    assert len(WebDataset(str(path)).split("train")) == 3


def test_damage_in_a_header_is_refused(tmp_path):
    """tarfile takes a damaged header, but for the first, for the end of the archive."""
    path = pack(tmp_path / "a.tar", pairs([0, 1, 1]))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        headers = [member.offset for member in archive.getmembers()]
    for header in headers:
        for at in (0, 100, 124, 135, 156):
            damaged = bytearray(whole)
            damaged[header + at] ^= 1
            path.write_bytes(damaged)
            refused(WebDataset(str(path)), r"a\.tar' (is damaged|cannot be read)")
    path.write_bytes(whole + whole)
    refused(WebDataset(str(path)), "is damaged: its members end at byte")


@pytest.mark.parametrize("size", [-512, -(2**40), 2**40])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, b"?", tarfile.XHDTYPE])
def test_sizes_that_lie_are_refused(tmp_path, size, kind):
    """A negative one would lead back to where the reader was: it would never end."""
    member = tarfile.TarInfo("0009.png")
    member.type, member.size = kind, size
    path = pack(tmp_path / "a.tar", pairs([0, 1]))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512
    path.write_bytes(whole[:end] + member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refused(WebDataset(str(path)), "cut short or damaged|cannot be read|is damaged|as a link")


def test_a_shard_that_changes_underneath_is_an_error(tmp_path):
    path = pack(tmp_path / "a.tar", pairs([0, 1]))
    split = WebDataset(str(path)).split("train")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"PNG", b"GNP"))
    with pytest.raises(DataError, match=r"The picture '0001' of '.*a.tar' cannot be read as a pic"):
        split[1]
    path.write_bytes(whole[:1024])
    with pytest.raises(DataError, match="is cut short; the shard was changed"):
        split[1]
    path.unlink()
    with pytest.raises(DataError, match=r"The picture '0001' of .* cannot be read"):
        split[1]


def test_the_fingerprint_follows_examples_and_order_but_not_place(tmp_path):
    first = [*pairs([0, 1, 1])]
    prints = [WebDataset(str(pack(tmp_path / "a.tar", first))).info.fingerprint]
    moved = pack(tmp_path / "there/b.tar", first, format=tarfile.PAX_FORMAT)
    assert WebDataset(str(moved)).info.fingerprint == prints[0]
    for changed in (
        [*first[2:4], *first[:2], *first[4:]],
        [("0000.cls", b"1"), first[1], ("0001.cls", b"0"), *first[3:]],
        [first[0], ("0000.png", encoded(0).replace(b"PNG", b"GNP")), *first[2:]],
        [(name.replace("0002", "0003"), content) for name, content in first],
    ):
        path = pack(tmp_path / "a.tar", changed)
        prints.append(WebDataset(str(path)).info.fingerprint)
    prints.append(WebDataset(str(moved), class_names=("ant", "bee")).info.fingerprint)
    assert len(set(prints)) == len(prints)


def test_a_reference_names_the_shards():
    assert finetune("webdataset:s/{00..09}.tar")["data"] == "webdataset:s/{00..09}.tar"
    assert finetune("s/{00..09}.tar")["data"] == "webdataset:s/{00..09}.tar"


def test_an_unpacked_shard_reads_the_same_when_gunzipped(tmp_path):
    """What the refusal of a compressed shard asks for is enough."""
    path = pack(tmp_path / "a.tar", pairs([0, 1]))
    packed = gzip.compress(path.read_bytes())
    (tmp_path / "b.tar").write_bytes(packed)
    refused(WebDataset(str(tmp_path / "b.tar")), "gzip")
    (tmp_path / "b.tar").write_bytes(gzip.decompress(packed))
    one, other = (WebDataset(str(tmp_path / f"{n}.tar")).info for n in "ab")
    assert one == other
