"""What a shard holds is found once, and anew whenever it may have changed."""

import io
import os
import shutil
import tarfile
import time

import numpy as np
import pytest
from PIL import Image
from tlx_data import shard_contents
from tlx_data.shard_contents import contents
from tlx_data.webdataset import WebDataset


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TLX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def opened(monkeypatch):
    """The shards whose headers are read, in order."""
    found, members = [], shard_contents.members

    def noting(path, file):
        found.append(path.name)
        return members(path, file)

    monkeypatch.setattr(shard_contents, "members", noting)
    return found


def pack(path, labels, *, age=60.0, shade=0):
    """A shard that was last changed `age` seconds ago."""
    with tarfile.open(path, "w") as archive:
        for number, label in enumerate(labels):
            png = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), shade + number, np.uint8)).save(png, "PNG")
            files = {"png": png.getvalue(), "cls": label.encode(), "txt": b"a"}
            for ending, content in files.items():
                member = tarfile.TarInfo(f"é{number}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    then = time.time_ns() - round(age * 1e9)
    os.utime(path, ns=(then, then))
    return path


def everything(pattern):
    source = WebDataset(str(pattern))
    split = source.split("train")
    images = [split[number]["image"].tobytes() for number in range(len(split))]
    return source.info, source.notes, split.keys, split.labels.tolist(), images


def test_it_is_found_once(tmp_path, cache, opened):
    for number in range(3):
        pack(tmp_path / f"{number}.tar", ["ant", "bee"], shade=10 * number)
    first = everything(tmp_path / "*.tar")
    assert opened == ["0.tar", "1.tar", "2.tar"]
    assert everything(tmp_path / "*.tar") == first
    assert len(opened) == 3
    assert first[0].splits == {"train": 6}
    assert first[1] == ("6 files in the shards with other endings ('.txt') were ignored.",)
    assert len(list(cache.iterdir())) == 3
    shutil.rmtree(cache)
    assert everything(tmp_path / "*.tar") == first
    assert len(opened) == 6


def test_a_shard_that_was_changed_is_read_anew(tmp_path, cache, opened):
    shard = pack(tmp_path / "0.tar", ["ant", "bee"], age=90)
    assert [example.label for example in contents(shard).examples] == ["ant", "bee"]
    size = shard.stat().st_size
    pack(shard, ["bee", "ant"], age=60)
    assert shard.stat().st_size == size
    assert [example.label for example in contents(shard).examples] == ["bee", "ant"]
    pack(shard, ["bee", "ant", "ant"] * 40, age=60)
    assert len(contents(shard).examples) == 120
    assert len(opened) == 3
    assert len(list(cache.iterdir())) == 1, "one for each shard"


def test_one_that_is_being_written_is_not_kept(tmp_path, cache, opened):
    for age in (0, -30):
        shard = pack(tmp_path / "0.tar", ["ant", "bee"], age=age)
        assert contents(shard) == contents(shard)
    assert len(opened) == 4
    assert not cache.exists()


def test_what_is_kept_and_damaged_is_not_believed(tmp_path, cache, opened):
    shard = pack(tmp_path / "0.tar", ["ant", "bee"])
    right = contents(shard)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for at in range(0, len(whole), 7):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert contents(shard) == right
    for content in (b"", whole[:100], b"[]", b"\xff" * 50, whole + b" "):
        kept.write_bytes(content)
        assert contents(shard) == right
    before = len(opened)
    assert contents(shard) == right
    assert len(opened) == before, "it was put right"


def test_without_room_for_a_cache_it_is_found_each_time(tmp_path, cache, opened):
    shard = pack(tmp_path / "0.tar", ["ant", "bee"])
    cache.parent.write_text("no folder")
    assert contents(shard) == contents(shard)
    assert len(opened) == 2
