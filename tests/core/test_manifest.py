"""The manifest notices whatever happens to a folder."""

import json

import pytest

from tlx.errors import CheckpointError
from tlx.files import manifest


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "step"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(range(100)))
    (folder / "deep" / "b.txt").write_text("hello")
    (folder / "empty").write_bytes(b"")
    manifest.commit(folder)
    return folder


def refusal(folder):
    with pytest.raises(CheckpointError) as caught:
        manifest.verify(folder)
    return str(caught.value)


def test_what_was_committed_is_whole(folder):
    manifest.verify(folder)
    listed = json.loads((folder / manifest.NAME).read_text())["files"]
    assert set(listed) == {"a.bin", "deep/b.txt", "empty"}
    # sha256 of no bytes at all, from FIPS 180-4's test vectors
    assert listed["empty"][1].startswith("e3b0c44298fc1c149afbf4c8996fb924")
    assert not list(folder.rglob("*.partial"))


def test_committing_again_takes_up_what_changed(folder):
    (folder / "a.bin").write_bytes(b"new")
    manifest.commit(folder)
    manifest.verify(folder)


def test_each_kind_of_damage_is_named(folder):
    original = (folder / "a.bin").read_bytes()
    (folder / "a.bin").write_bytes(original[:-1])
    assert "a.bin has 99 bytes, but 100 were written" in refusal(folder)
    (folder / "a.bin").write_bytes(original + b"x")
    assert "a.bin has 101 bytes" in refusal(folder)
    (folder / "a.bin").write_bytes(bytes([original[0] ^ 1]) + original[1:])
    assert "a.bin was changed after it was written" in refusal(folder)
    (folder / "a.bin").unlink()
    assert "a.bin is missing" in refusal(folder)
    (folder / "a.bin").write_bytes(original)
    manifest.verify(folder)
    (folder / "deep" / "more").write_text("")
    assert "does not belong there" in refusal(folder)


def test_every_single_flipped_byte_of_the_manifest_shows(folder):
    path = folder / manifest.NAME
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refusal(folder)
    path.write_bytes(whole[: len(whole) // 2])
    assert "manifest.json is damaged" in refusal(folder)
    path.write_text("[]")
    assert "manifest.json is damaged" in refusal(folder)
    path.unlink()
    assert "manifest.json is missing" in refusal(folder)


def test_the_manifest_is_written_last_and_removed_first(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(manifest, "flush", lambda path: seen.append(path.name))
    manifest.commit(folder)
    assert seen.index(".manifest.json.partial") > max(
        seen.index(name) for name in ("a.bin", "b.txt", "empty", "deep")
    )
    assert seen[-1] == folder.parent.name

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest.shutil, "rmtree", stop)
    with pytest.raises(KeyboardInterrupt):
        manifest.discard(folder)
    assert "manifest.json is missing" in refusal(folder)
    monkeypatch.undo()
    manifest.discard(folder)
    assert not folder.exists()


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    manifest.write(path, "old")

    def full(path):
        raise OSError("no room")

    monkeypatch.setattr(manifest, "flush", full)
    with pytest.raises(OSError, match="no room"):
        manifest.write(path, "new")
    assert path.read_text() == "old"
