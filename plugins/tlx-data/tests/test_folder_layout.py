"""Which folders are splits and which are classes: what people have, and what is asked instead."""

import pytest
from PIL import Image
from tlx_data.folder import Folder
from tlx_data.split_names import hint, meaning

from tlx import registry
from tlx.errors import ConfigError, DataError


def tree(root, *paths, **options):
    for shade, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(root / path)
    return Folder(str(root), **options)


def both(*splits):
    """Two classes in each split."""
    return [f"{split}/{name}/1.png" for split in splits for name in ("ant", "bee")]


def refusal(source):
    with pytest.raises(DataError) as error:
        source.info  # noqa: B018
    return str(error.value)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("TRAIN", "VALID", "EVAL"),
        ("training", "validation", "testing"),
        ("Training", "dev", "Evaluation"),
        ("train_set", "dev-set", "Test images"),
        ("trainset", "valset", "testset"),
    ],
)
def test_splits_by_any_of_their_names(tmp_path, train, val, test):
    source = tree(tmp_path, *both(train, val, test), f"{val}/bee/2.png")
    assert source.info.splits == {"train": 2, "val": 3, "test": 2}
    assert source.info.classes == ("ant", "bee")
    said = " ".join(source.notes)
    others = [name for name in (train, val, test) if name not in ("train", "val", "test")]
    assert all(repr(name) in said for name in others)
    assert source.split("val").paths[0].parts[-3] == val


def test_a_name_that_only_holds_such_a_word_is_a_hint():
    assert [meaning(n) for n in ("bullet train", "test_tube", "validated", "photos")] == [None] * 4
    assert (hint("seg_train"), hint("test1"), hint("bus"), hint("train_test")) == (
        "train", "test", None, None,
    )  # fmt: skip


@pytest.mark.parametrize("stranger", ["holdout", "test1", "more", "Prüfung"])
def test_a_folder_beside_splits_is_understood_or_asked_about(tmp_path, stranger):
    source = tree(tmp_path, *both("train", stranger))
    text = refusal(source)
    assert f"{stranger!r} beside the split 'train'" in text
    assert 'layout = "classes"' in text
    (tmp_path / "notes").mkdir()  # holds no picture
    source = Folder(str(tmp_path), splits={stranger: "test"})
    assert source.info.splits == {"train": 2, "test": 2}
    assert any("'notes'" in note for note in source.notes)
    source = Folder(str(tmp_path), splits={stranger: "ignore"})
    assert source.info.splits == {"train": 2}
    assert f"1 folder was left out as you say: {stranger}." in source.notes
    both_classes = Folder(str(tmp_path / "train"), layout="classes")
    assert both_classes.info.classes == ("ant", "bee")


def test_two_folders_for_one_split(tmp_path):
    for one, other in (("val", "valid"), ("Test", "test"), ("dev", "validation")):
        text = refusal(tree(tmp_path / one, *both("train", one, other)))
        assert text.startswith("Both ")
        assert f"{other!r}" in text
    source = Folder(str(tmp_path / "val"), splits={"valid": "test"})
    assert source.info.splits == {"train": 2, "val": 2, "test": 2}


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    assert tree(tmp_path / "a", "train/1.png", "bus/2.png").info.classes == ("bus", "train")
    assert tree(tmp_path / "b", "valid/1.png", "void/2.png").info.classes == ("valid", "void")
    deep = tree(tmp_path / "c", "train/steam/1.png", "bus/red/2.png")
    assert "'bus' beside the split 'train'" in refusal(deep)
    source = Folder(deep.path, layout="classes")
    assert source.info.classes == ("bus", "train")


def test_pictures_in_a_folder_test_beside_classes_are_asked_about(tmp_path):
    """Kaggle's unlabelled pictures, or a class of that name."""
    source = tree(tmp_path, "bus/1.png", "car/2.png", "test/3.png")
    assert "a split, but also a class" in refusal(source)
    assert Folder(source.path, layout="classes").info.splits == {"train": 3}
    assert Folder(source.path, splits={"test": "ignore"}).info.classes == ("bus", "car")
    none = tree(tmp_path / "none", "train/1.png", "test/2.png")
    assert "train/CLASS/PICTURE" in refusal(none)


@pytest.mark.parametrize("inner", ["", "unlabelled/"])
def test_an_unlabelled_test_split_is_said_and_left_out(tmp_path, inner):
    source = tree(tmp_path, *both("train"), f"test/{inner}1.png", f"test/{inner}2.png")
    assert source.info.splits == {"train": 2}
    (note,) = source.notes
    assert f"`tlx predict RUN {tmp_path / 'test'}`" in note
    labelled = tree(tmp_path / "val", *both("train"), "val/1.png")
    assert "'val', the validation split, holds pictures without folders" in refusal(
        labelled
    ).replace(f"{labelled.path}/", "")


def test_a_folder_in_a_folder(tmp_path):
    text = refusal(tree(tmp_path / "one", "photos/ant/1.png", "photos/bee/2.png"))
    assert f"give {str(tmp_path / 'one/photos')!r} instead" in text
    (tmp_path / "one/__MACOSX").mkdir()
    (tmp_path / "one/README.md").touch()
    assert "photos' instead" in refusal(Folder(str(tmp_path / "one")))
    text = refusal(tree(tmp_path / "two", *both("set/train", "set/val")))
    assert f"give {str(tmp_path / 'two/set')!r} instead" in text
    source = tree(tmp_path / "three", *both("train/train", "test/test"))
    assert source.info.classes == ("ant", "bee")
    assert source.info.splits == {"train": 2, "test": 2}
    assert any("train/train" in note for note in source.notes)
    assert Folder(str(tmp_path / "one"), layout="classes").info.classes == ("photos",)
    kept = Folder(source.path, layout="splits", splits={"test": "ignore"})
    assert kept.info.classes == ("train",)


def test_splits_of_unknown_names_are_asked_about(tmp_path):
    text = refusal(tree(tmp_path / "seg", *both("seg_train", "seg_test"), "seg_pred/1.png"))
    assert 'seg_train = "train"' in text
    assert 'seg_pred = "ignore"' in text
    meant = {"seg_train": "train", "seg_test": "test", "seg_pred": "ignore"}
    assert Folder(str(tmp_path / "seg"), splits=meant).info.splits == {"train": 2, "test": 2}
    assert "hold folders of the same names" in refusal(tree(tmp_path / "f", *both("f1", "f2")))
    assert Folder(str(tmp_path / "f"), layout="classes").info.classes == ("f1", "f2")
    nested = tree(tmp_path / "n", "cat/in/1.png", "cat/out/2.png", "dog/in/3.png")
    assert nested.info.classes == ("cat", "dog")


def test_splits_without_pictures_or_training(tmp_path):
    source = tree(tmp_path, *both("train"))
    (tmp_path / "val").mkdir()
    assert "the validation split, holds no picture" in refusal(source)
    assert "nothing to train on" in refusal(tree(tmp_path / "x", *both("val", "test")))


def test_options_that_do_not_fit(tmp_path):
    path = str(tree(tmp_path, *both("train", "holdout")).path)
    with pytest.raises(ConfigError, match=r"a folder 'holdut'.*Did you mean 'holdout'"):
        Folder(path, splits={"holdut": "test"}).info  # noqa: B018
    with pytest.raises(ConfigError, match="Leave out one of the two"):
        Folder(path, layout="classes", splits={"holdout": "test"}).info  # noqa: B018
    with pytest.raises(ConfigError, match="splits"):
        registry.build("datasets", "folder", {"path": path, "splits": {"holdout": "tests"}})
    built = registry.build("datasets", "folder", {"path": path, "splits": {"holdout": "test"}})
    assert built.info.splits == {"train": 2, "test": 2}
