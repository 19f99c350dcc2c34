"""A folder of pictures by class, and everything that can be wrong with one."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tlx_data.folder import Folder
from tlx_image import ImageInput
from tlx_image.model_images import collate_images

from tlx.cli import main
from tlx.data.splits import cut
from tlx.errors import DataError
from tlx.protocols import DataSource
from tlx.stream import evaluation


def picture(path, shade=100, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 0)).save(path)


def tree(root, *paths):
    for shade, path in enumerate(paths):
        picture(root / path, shade)
    return Folder(str(root))


def test_splits_and_classes_are_found(tmp_path):
    source = tree(
        tmp_path, "train/bee/1.png", "train/ant/2.png", "train/ant/0.PNG",
        "val/ant/3.png", "val/bee/4.bmp", "test/bee/5.png", "test/ant/deep/er/6.png",
    )  # fmt: skip
    assert isinstance(source, DataSource)
    assert source.info.splits == {"train": 3, "val": 2, "test": 2}
    assert source.info.classes == ("ant", "bee")
    assert source.info.fields["image"].shape is None
    train = source.split("train")
    assert [path.name for path in train.paths] == ["0.PNG", "2.png", "1.png"]
    assert train.labels.tolist() == [0, 0, 1]
    assert (train[1]["image"][0, 0, 0], train[1]["label"]) == (1, 0)
    assert source.notes == ()


def test_one_level_is_a_lone_train(tmp_path):
    source = tree(tmp_path, "bee/1.png", "ant/2.png")
    assert source.info.splits == {"train": 2}
    assert source.info.classes == ("ant", "bee")


def test_what_is_left_out_is_counted_and_named(tmp_path):
    source = tree(tmp_path, "train/a/1.png", "train/b/2.png", "train/a/.hidden.png", ".git/a/b.png")
    (tmp_path / "train/.DS_Store").write_text("x")
    for name in ("Thumbs.db", "desktop.ini", "._1.png"):
        (tmp_path / "train/b" / name).write_text("x")
    picture(tmp_path / "train/a/.ipynb_checkpoints/1-checkpoint.png")
    picture(tmp_path / "train/__MACOSX/b/9.png")
    (tmp_path / "train/a/notes.txt").write_text("x")
    (tmp_path / "train/list.csv").write_text("x")
    picture(tmp_path / "train/loose.png")
    assert source.info.splits == {"train": 2}
    assert source.info.classes == ("a", "b")
    assert source.notes == (
        "1 picture lies in no folder of a class and was left out: train/loose.png.",
        "2 files are no pictures and were left out: train/list.csv, train/a/notes.txt.",
        "4 hidden entries were left out: .git, train/__MACOSX, train/a/.hidden.png, "
        "train/a/.ipynb_checkpoints.",
    )


def test_links_are_followed_once_and_broken_ones_named(tmp_path):
    root, store = tmp_path / "photos", tmp_path / "store"
    tree(root, "ant/1.png", "bee/2.png")
    picture(store / "deep" / "7.png")
    picture(store / "wasps" / "8.png")
    (root / "ant" / "more").symlink_to(store / "deep")
    (root / "ant" / "back").symlink_to("..")
    (root / "ant" / "bees").symlink_to(root / "bee")
    (root / "bee" / "disk").symlink_to("/")
    (store / "deep" / "circle").symlink_to(store / "deep")
    (root / "bee" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "wasp").symlink_to(store / "wasps")
    source = Folder(str(root))
    train = source.split("train")
    assert source.info.classes == ("ant", "bee", "wasp")
    assert [p.relative_to(root).as_posix() for p in train.paths] == [
        "ant/1.png", "ant/more/7.png", "bee/2.png", "wasp/8.png",
    ]  # fmt: skip
    assert source.notes == (
        "1 link leads nowhere and was left out: bee/gone.png.",
        "4 links lead to a folder that is read anyway: ant/back, ant/bees, ant/more/circle, "
        "bee/disk.",
    )
    (root / "fly").symlink_to(store / "moved")
    with pytest.raises(DataError, match=r"fly' leads nowhere"):
        Folder(str(root)).info  # noqa: B018


def test_whatever_pillow_reads_is_a_picture(tmp_path):
    source = tree(tmp_path, "a/1.png", "b/2.tga")
    for name, kind in (("a/3.jfif", "JPEG"), ("a/4.JPE", "JPEG"), ("b/5.jp2", "JPEG2000")):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name, format=kind)
    (tmp_path / "b/6.heic").write_bytes(b"x")
    (tmp_path / "b/7.pdf").write_bytes(b"x")
    (tmp_path / "b/8.eps").write_bytes(b"x")
    assert source.info.splits == {"train": 5}
    assert {split["image"].shape[2] for split in map(source.split("train").__getitem__, range(5))}
    (note,) = source.notes
    assert note.startswith("3 files are no pictures and were left out: b/6.heic, b/7.pdf, b/8.eps.")
    assert "pip install pillow-heif" in note


def test_class_folders_that_are_hard_to_tell_apart(tmp_path):
    source = tree(tmp_path / "case", "Cat/1.png", "cat/2.png", "dog/3.png")
    assert source.info.classes == ("Cat", "cat", "dog")  # 'A' and 'a' are two letters
    assert source.notes[0].startswith("The class folders 'Cat', 'cat' differ only by capitals")
    accents = ("\u00e91/2.png", "e\u03011/3.png")
    for one, other in (("cat/1.png", "cat /2.png"), accents):
        source = tree(tmp_path / repr(one)[1:4], one, other)
        with pytest.raises(DataError, match="differ only by spaces or by how an accent"):
            source.info  # noqa: B018
    source = tree(
        tmp_path / "splits", "train/Cat/1.png", "train/x/2.png", "val/cat/3.png", "val/x/1.png"
    )
    with pytest.raises(DataError, match="'Cat' and 'cat' are written differently"):
        source.info  # noqa: B018


def test_a_class_in_one_split_only_is_refused(tmp_path):
    source = tree(tmp_path, "train/ant/1.png", "train/bee/2.png", "val/ant/3.png")
    with pytest.raises(DataError, match="'bee' is in 'train' but not in 'val'"):
        source.info  # noqa: B018
    picture(tmp_path / "val/bee/4.png")
    picture(tmp_path / "val/wasp/4.png")
    with pytest.raises(DataError, match="'wasp' is in 'val' but not in 'train'"):
        Folder(str(tmp_path)).info  # noqa: B018


def test_folders_without_pictures_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Folder(str(tmp_path / "gone")).info  # noqa: B018
    with pytest.raises(DataError, match=r"The folder .* holds no folder of a class\."):
        Folder(str(tmp_path)).info  # noqa: B018
    (tmp_path / "1.png").touch()
    with pytest.raises(DataError, match=r"holds no folder of a class, only 1 file\. .*/CLASS/PIC"):
        Folder(str(tmp_path)).info  # noqa: B018
    with pytest.raises(DataError, match=rf"Did you mean '{tmp_path.name}'"):
        Folder(f"{tmp_path}s").info  # noqa: B018
    source = tree(tmp_path, "ant/1.png")
    (tmp_path / "bee").mkdir()
    with pytest.raises(DataError, match=r"'bee' of .* holds no picture"):
        source.info  # noqa: B018


def test_an_unreadable_picture_is_named(tmp_path):
    source = tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "b/broken.jpg").write_bytes(b"no picture")
    assert source.info.splits == {"train": 3}
    with pytest.raises(DataError, match=r"broken\.jpg"):
        source.split("train")[2]


def test_the_fingerprint_follows_names_order_and_content_but_not_place_or_time(tmp_path):
    first = tree(tmp_path / "one", "a/1.png", "b/2.png").info.fingerprint
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    os.utime(tmp_path / "two/a/1.png", (1, 1))
    assert Folder(str(tmp_path / "two")).info.fingerprint == first
    (tmp_path / "two/a/1.png").rename(tmp_path / "two/a/3.png")
    renamed = Folder(str(tmp_path / "two")).info.fingerprint
    picture(tmp_path / "two/a/3.png", 99)
    changed = Folder(str(tmp_path / "two")).info.fingerprint
    assert len({first, renamed, changed}) == 3


def test_ants_and_bees(tmp_path):
    shared = os.environ.get("TLX_SHARED_DATA")
    data = Path(shared) if shared else Path(__file__).parents[4] / "shared/data"
    if not (data / "hymenoptera_256.zip").exists():
        pytest.skip("the ants and bees pictures are not here")
    with zipfile.ZipFile(data / "hymenoptera_256.zip") as archive:
        archive.extractall(tmp_path)
    splits = cut(Folder(str(tmp_path)), seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (220, 24, 153)
    batch = next(
        evaluation(splits.test, collate_images((64, 64), ImageInput(crop=0.875)), batch_size=16)
    )
    assert batch.inputs["image"].shape == (16, 64, 64, 3)
    assert 60 < batch.inputs["image"].mean() < 200
    assert np.bincount(splits.test.labels).tolist() == [70, 83]


def test_links_that_lead_to_themselves_are_named_as_leading_nowhere(tmp_path):
    source = tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/0.png").symlink_to("0.png")
    assert source.info.splits == {"train": 2}
    assert any("1 link leads nowhere" in note and "a/0.png" in note for note in source.notes)


def test_names_that_are_no_text(tmp_path, capsys):
    """Old archives leave names in another encoding, which Linux keeps as bytes."""
    source = tree(tmp_path, "a/1.png", "b/\udcff.png", "b/2.png")
    assert source.info.splits == {"train": 3}
    assert main(["data", "check", str(tmp_path)]) == 2  # a picture of one colour is there twice
    said = capsys.readouterr()
    assert "internal error" not in said.err
    picture(tmp_path / "\udcff" / "3.png")
    with pytest.raises(DataError, match=r"class folder '\\udcff' .* no text in UTF-8. Rename"):
        _ = Folder(str(tmp_path)).info
