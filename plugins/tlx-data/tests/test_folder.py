"""A folder of pictures by class, and everything that can be wrong with one."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tlx_data.folder import Folder

from tlx.data.splits import cut
from tlx.errors import DataError
from tlx.protocols import DataSource
from tlx.stream import evaluation
from tlx.types import InputSpec


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
    assert source.info.shape is None
    train = source.split("train")
    assert [path.name for path in train.paths] == ["0.PNG", "2.png", "1.png"]
    assert train.labels.tolist() == [0, 0, 1]
    assert (train[1]["image"][0, 0, 0], train[1]["label"]) == (1, 0)
    assert source.notes == ()


def test_one_level_is_a_lone_train(tmp_path):
    source = tree(tmp_path, "bee/1.png", "ant/2.png")
    assert source.info.splits == {"train": 2}
    assert source.info.classes == ("ant", "bee")


def test_a_class_may_be_called_train(tmp_path):
    source = tree(tmp_path, "train/1.png", "plane/2.png", "test/3.png")
    assert source.info.classes == ("plane", "test", "train")
    assert source.info.splits == {"train": 3}


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_split(tmp_path, name):
    assert tree(tmp_path, "train/a/1.png", f"{name}/a/2.png").info.splits == {"train": 1, "val": 1}
    picture(tmp_path / "val/a/3.png")
    with pytest.raises(DataError, match="are a validation split"):
        Folder(str(tmp_path)).info  # noqa: B018


def test_hidden_files_are_skipped_and_others_counted(tmp_path):
    source = tree(tmp_path, "train/a/1.png", "train/b/2.png", "train/a/.hidden.png", ".git/a/b.png")
    (tmp_path / "train/.DS_Store").write_text("x")
    (tmp_path / "train/a/.cache").mkdir()
    picture(tmp_path / "train/a/.cache/9.png")
    (tmp_path / "train/a/notes.txt").write_text("x")
    (tmp_path / "train/list.csv").write_text("x")
    assert source.info.splits == {"train": 2}
    assert source.notes == ("2 files that are no pictures of a class were ignored.",)


def test_a_class_in_one_split_only_is_refused(tmp_path):
    source = tree(tmp_path, "train/ant/1.png", "train/bee/2.png", "val/ant/3.png")
    with pytest.raises(DataError, match="'bee' is in 'train' but not in 'val'"):
        source.info  # noqa: B018
    picture(tmp_path / "val/bee/4.png")
    picture(tmp_path / "val/wasp/4.png")
    with pytest.raises(DataError, match="'wasp' is in 'val' but not in 'train'"):
        Folder(str(tmp_path)).info  # noqa: B018


def test_unlabelled_test_pictures_are_refused(tmp_path):
    source = tree(tmp_path, "train/ant/1.png", "test/1.png")
    with pytest.raises(DataError, match="'test' has no class folders"):
        source.info  # noqa: B018


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
        evaluation(splits.test, batch_size=16, canvas=(64, 64), inputs=InputSpec(crop=0.875))
    )
    assert batch["image"].shape == (16, 64, 64, 3)
    assert 60 < batch["image"].mean() < 200
    assert np.bincount(splits.test.labels).tolist() == [70, 83]
