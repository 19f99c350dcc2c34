"""Data sets of `datasets`, held against what `datasets` itself reads."""

import io
import shutil
import sys

import datasets
import huggingface_hub
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pillow
from pyarrow import parquet
from tlx_data.hfds import Hfds
from tlx_image.model_images import collate_images

import tlx
from tlx.data.splits import cut
from tlx.errors import DataError
from tlx.protocols import DataSource, Labelled, Noted
from tlx.run_file.finetune import table as finetune
from tlx.stream import training
from tlx.testing import toys


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # Nothing is asked of a server.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def encoded(number, mode="RGB"):
    file = io.BytesIO()
    pixels = np.full((6, 5 + number % 3, 3), number, np.uint8)
    pixels[..., number % 2] += 100
    Pillow.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def table(numbers, labels=None, kind=None, mode="RGB", **more):
    """Rows with a picture, a label and whatever else."""
    labels = [number % 2 for number in numbers] if labels is None else labels
    pictures = [{"bytes": encoded(number, mode), "path": None} for number in numbers]
    kinds = {"image": Image(), "label": kind or ClassLabel(names=["red", "green"])}
    kinds |= {name: Value("string") for name in more}
    return Dataset.from_dict({"image": pictures, "label": labels, **more}, Features(kinds))


def saved(folder, **splits):
    DatasetDict(splits).save_to_disk(folder)
    return Hfds(str(folder))


def as_parquet(folder, **splits):
    """The layout of most repositories of the hub."""
    (folder / "data").mkdir(parents=True)
    for name, rows in splits.items():
        rows.to_parquet(folder / f"data/{name}-00000-of-00001.parquet")
    return Hfds(str(folder))


def refused(source, said):
    with pytest.raises(DataError, match=said) as caught:
        source.info  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [saved, as_parquet])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_examples_are_those_of_datasets(tmp_path, write, mode):
    rows = {"train": table(range(9), mode=mode, note=list("abcdefghi")), "test": table([3, 4])}
    rows["validation"] = rows["test"].select([1, 0])
    if mode != "RGB":  # splits of a repository share their columns
        del rows["test"], rows["validation"]
    elif write is as_parquet:
        rows["train"] = rows["train"].remove_columns("note")
    source = write(tmp_path / "shades", **rows)
    assert isinstance(source, DataSource)
    assert isinstance(source, Noted)
    assert source.info.name == "shades"
    assert source.info.classes == ("red", "green")
    ours = {"validation": "val"}
    assert source.info.splits == {ours.get(n, n): len(split) for n, split in rows.items()}
    for name, expected in rows.items():
        split = source.split(ours.get(name, name))
        assert isinstance(split, Labelled)
        for index in reversed(range(len(expected))):
            picture = np.asarray(expected[index]["image"].convert("RGB"))
            np.testing.assert_array_equal(split[index]["image"], picture)
            assert split[index]["label"] == split.labels[index] == expected[index]["label"]
    assert source.notes == ()


def test_a_folder_of_pictures_is_read_like_a_repository(tmp_path):
    for name in ("train/ant/1.png", "train/bee/2.png", "train/bee/3.png", "test/bee/4.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(int(path.stem)))
    source = Hfds(str(tmp_path / "photos"))
    expected = datasets.load_dataset(str(tmp_path / "photos"))
    assert source.info.classes == ("ant", "bee")
    assert source.info.splits == {"train": 3, "test": 1}
    for index in range(3):
        example = source.split("train")[index]
        np.testing.assert_array_equal(example["image"], expected["train"][index]["image"])
        assert example["label"] == expected["train"][index]["label"]
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    assert Hfds(str(tmp_path / "copy")).info.fingerprint == source.info.fingerprint
    (tmp_path / "photos/train/bee/2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png' does not exist"):
        source.split("train")[1]
    (tmp_path / "copy/test/bee/4.png").write_bytes(encoded(6))
    changed = Hfds(str(tmp_path / "copy")).info
    assert changed.splits == source.info.splits
    assert changed.fingerprint != source.info.fingerprint


def test_config_and_data_dir_choose_a_part(tmp_path):
    for name, numbers in (("small", [1, 2]), ("large", range(6))):
        as_parquet(tmp_path / "both" / name, train=table(numbers))
    config = "- config_name: {0}\n  data_dir: {0}\n"
    text = f"---\nconfigs:\n{config.format('small')}{config.format('large')}---\n"
    (tmp_path / "both/README.md").write_text(text)
    dataset = str(tmp_path / "both")
    assert Hfds(dataset, config="small").info.splits == {"train": 2}
    assert Hfds(dataset, config="large").info.splits == {"train": 6}
    refused(Hfds(dataset), r"both' cannot be had: Config name is missing.*'small', 'large'")
    refused(Hfds(dataset, config="tiny"), "cannot be had: BuilderConfig 'tiny' not found")
    (tmp_path / "both/README.md").unlink()
    assert Hfds(dataset, data_dir="large").info.splits == {"train": 6}


def test_other_columns_and_kinds_of_labels(tmp_path):
    def labelled(labels, kind, **options):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        source = saved(tmp_path / "set", train=table(range(4), labels, kind))
        return Hfds(source.dataset, label="label", **options)

    text = labelled(["bee", "ant", "bee", "bee"], Value("string"))
    assert text.info.classes == ("ant", "bee")
    assert text.split("train").labels.tolist() == [1, 0, 1, 1]
    whole = labelled([1, 0, 2, 1], Value("int64"))
    assert whole.info.classes == ("0", "1", "2")
    named = labelled([1, 0, 2, 1], Value("int64"), class_names=("a", "b", "c"))
    assert named.info.classes == ("a", "b", "c")
    assert named.split("train").labels.tolist() == [1, 0, 2, 1]
    targets = labelled([0.5, -1, 2, 0], Value("float32"))
    assert targets.info.classes == ()
    np.testing.assert_allclose(targets.split("train").labels, [0.5, -1, 2, 0])
    refused(labelled([0, 0, 2, 1], Value("int64"), class_names=("a", "b")), "Example 2 of .*'train")
    refused(labelled([0, None, 2, 1], Value("int64")), "Example 1 of .* 'train' has no label")
    refused(labelled([0, 0, 1, 1], ClassLabel(2), class_names=("a", "b")), "names the classes of")


def test_columns_are_guessed_or_refused_with_a_list(tmp_path):
    rows = table(range(4))
    renamed = rows.rename_columns({"image": "img", "label": "coarse"})
    source = saved(tmp_path / "one", train=renamed)
    assert source.info.classes == ("red", "green")
    assert source.split("train")[1]["image"].shape == (6, 6, 3)
    both = renamed.add_column("fine", [3, 2, 1, 0]).cast_column("fine", ClassLabel(4))
    masks = [{"bytes": encoded(number), "path": None} for number in range(4)]
    both = both.add_column("mask", masks).cast_column("mask", Image())
    dataset = saved(tmp_path / "two", train=both).dataset
    columns = r"img \(Image\), coarse \(ClassLabel\), fine \(ClassLabel\), mask \(Image\)"
    refused(Hfds(dataset), f"2 columns of the kind Image.*image = .* Its columns are {columns}")
    refused(Hfds(dataset, image="img"), f"2 columns of the kind ClassLabel.*{columns}")
    fine = Hfds(dataset, image="img", label="fine")
    assert fine.split("train").labels.tolist() == [3, 2, 1, 0]
    assert fine.info.fingerprint != Hfds(dataset, image="img", label="coarse").info.fingerprint
    refused(Hfds(dataset, image="imgs", label="fine"), r"no column 'imgs' .*Did you mean 'img'")
    refused(Hfds(dataset, image="coarse", label="fine"), "no column 'coarse' that can be its image")
    refused(Hfds(dataset, image="img", label="mask"), "no column 'mask' that can be its label")
    text = saved(tmp_path / "text", train=table(range(2), ["a", "b"], Value("string")))
    refused(text, r"no columns of the kind ClassLabel.*label \(string\)")


def test_splits_without_labels_and_other_splits_are_left_out(tmp_path):
    source = saved(
        tmp_path / "set",
        train=table(range(4)),
        validation=table([1, 2]),
        test=table([5, 6], [-1, -1]),
        unsupervised=table([7]),
    )
    assert source.info.splits == {"train": 4, "val": 2}
    assert source.notes == (
        f"The split 'unsupervised' (1 examples) of {source.dataset!r} is not used.",
        f"The split 'test' of {source.dataset!r} has no labels and is left out.",
    )
    bare = saved(tmp_path / "bare", train=table(range(4)), test=table([5]).remove_columns("label"))
    assert bare.info.splits == {"train": 4}
    partly = saved(tmp_path / "partly", train=table(range(4)), test=table([5, 6], [1, None]))
    refused(partly, "Example 1 of .*partly 'test' has no label, while others have one")


def test_splits_that_contradict_each_other_are_refused(tmp_path):
    rows = table(range(4))
    refused(saved(tmp_path / "a", train=rows, val=rows, validation=rows), "which are both 'val'")
    refused(saved(tmp_path / "b", all=rows), "no split called train, .* it has all")
    turned = table(range(4), kind=ClassLabel(names=["green", "red"]))
    refused(saved(tmp_path / "c", train=rows, test=turned), "in another order, in 'test'")
    lone = saved(tmp_path / "d", train=rows.rename_columns({"image": "x"}), test=rows)
    refused(lone, "has no column 'x' in 'test'")


def test_a_single_saved_split_in_another_format_is_train(tmp_path):
    rows = table(range(6)).select([5, 3, 1, 0]).with_format("numpy")
    rows.save_to_disk(tmp_path / "one")
    split = Hfds(str(tmp_path / "one")).split("train")
    assert split.labels.tolist() == [1, 1, 1, 0]
    assert [int(split[i]["image"].min()) for i in range(4)] == [5, 3, 1, 0]


def test_what_cannot_be_had_is_said(tmp_path, monkeypatch):
    refused(Hfds("nobody/nothing"), "data set 'nobody/nothing' cannot be had: ")
    refused(Hfds(str(tmp_path / "gone")), "gone' cannot be had: ")
    (tmp_path / "empty").mkdir()
    refused(Hfds(str(tmp_path / "empty")), "empty' cannot be had: ")
    dataset = saved(tmp_path / "set", train=table(range(4))).dataset
    for option in ("config", "revision", "data_dir"):
        refused(Hfds(dataset, **{option: "x"}), f"a local folder, so it has no {option} 'x'")
    with next((tmp_path / "set/train").glob("*.arrow")).open("r+b") as file:
        file.truncate(100)
    refused(Hfds(dataset), "set' cannot be had: ")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(Hfds(dataset), "is read by the package datasets: pip install datasets")


def test_revision_and_the_rest_reach_datasets(monkeypatch):
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return DatasetDict(train=table(range(4)))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Hfds("owner/name", config="small", revision="v1.0", data_dir="here")
    assert source.info.splits == {"train": 4}
    assert source.info.name == "name"
    assert asked == [(("owner/name", "small"), {"data_dir": "here", "revision": "v1.0"})]


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    rows = [{"bytes": b"no picture", "path": None}, None, {"bytes": encoded(1), "path": None}]
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    Dataset.from_dict({"image": rows, "label": [0, 1, 0]}, features).save_to_disk(tmp_path / "s")
    split = Hfds(str(tmp_path / "s")).split("train")
    with pytest.raises(DataError, match=r"Example 0 of .*s 'train' cannot be read as a picture"):
        split[0]
    with pytest.raises(DataError, match=r"Example 1 of .*s 'train' has no picture"):
        split[1]
    assert split[2]["image"].max() == 101


def test_the_fingerprint_is_one_of_the_examples(tmp_path):
    """Not of where they lie or how they were written."""
    rows = table(range(6))
    prints = [saved(tmp_path / "a", train=rows).info.fingerprint]
    assert as_parquet(tmp_path / "b", train=rows).info.fingerprint == prints[0]
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    assert Hfds(str(tmp_path / "c")).info.fingerprint == prints[0]
    for number, changed in enumerate((
        rows.select([1, 0, 2, 3, 4, 5]),
        rows.select(range(5)),
        table(range(6), [1, 1, 0, 1, 0, 1]),
        table([*range(5), 7]),
        rows.cast_column("label", ClassLabel(names=["red", "blue"])),
    )):  # fmt: skip
        prints.append(saved(tmp_path / f"{number}", train=changed).info.fingerprint)
    prints.append(saved(tmp_path / "d", train=rows, test=rows).info.fingerprint)
    assert len(set(prints)) == len(prints)


def test_threads_read_the_same(tmp_path):
    source = saved(tmp_path / "set", train=table(range(100)))
    splits = cut(source, shots=20, seed=0)
    stream = training(splits.train, collate_images((6, 6)), batch_size=8, seed=0, threads=4)
    for _, batch in zip(range(20), stream, strict=False):
        lead = batch.inputs["image"][..., 0] > batch.inputs["image"][..., 1]
        np.testing.assert_array_equal(lead.all((1, 2)), batch.targets["label"] == 0)
    stream.close()


def test_feature_transfer_by_reference(tmp_path, monkeypatch):
    saved(tmp_path / "colours", train=table(range(60)), test=table(range(60, 80)))
    monkeypatch.chdir(tmp_path)
    toy = f"{toys.__file__}:ToyBackbone"
    run = finetune("hfds:colours", backbone=toy, strategy="feature_transfer", batch_size=10)
    assert (run["name"], run["data"]) == ("colours", "hfds:colours")
    result = tlx.run({**run, "augmentation": [], "sink": []})
    assert result["test"]["accuracy"] > 0.9
    assert tlx.load("runs/colours").classes == ("red", "green")


@pytest.mark.parametrize("name", ["secret.png", "set/../secret.png", "set/link.png", "a" * 5000])
def test_a_table_names_no_file_outside_of_its_folder(tmp_path, name):
    """Where the bytes are not in the table, `datasets` would open whatever path is there."""
    (tmp_path / "secret.png").write_bytes(encoded(1))
    columns = {"image": [{"bytes": None, "path": str(tmp_path / name)}], "label": [0]}
    features = Features({"image": Image(), "label": Value("int64")})
    rows = Dataset.from_dict(columns, features).data.table  # which `datasets` would not write so
    (tmp_path / "set").mkdir()
    metadata = features.arrow_schema.metadata
    parquet.write_table(rows.replace_schema_metadata(metadata), tmp_path / "set" / "train.parquet")
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    source = Hfds(str(tmp_path / "set"), label="label")
    for ask in (lambda: source.info, lambda: source.split("train")[0]):
        with pytest.raises(DataError, match=r"lies outside of|File name too long"):
            ask()


@pytest.mark.parametrize(
    ("kind", "column", "cells", "classes", "labels"),
    [
        ("number", Value("int64"), [20, 31, 7], (), [20, 31, 7]),
        ("number", Value("string"), ["20", "3.5", "7"], (), [20, 3.5, 7]),
        ("number", List(Value("float32")), [[1, 2], [3, 4.5]] * 2, (), [[1, 2], [3, 4.5]] * 2),
        ("class", Value("string"), ["01", "1", "01"], ("01", "1"), [0, 1, 0]),
        ("multilabel", List(ClassLabel(names=["b", "a"])), [[0, 1], [], [1]], ("b", "a"),
         [[1, 1], [0, 0], [0, 1]]),
        ("multilabel", List(Value("string")), [["a", "b"], ["a"], []], ("a", "b"),
         [[1, 1], [1, 0], [0, 0]]),
        ("multilabel", Value("string"), ["a|b", "a", "b"], ("a", "b"), [[1, 1], [1, 0], [0, 1]]),
    ],
)  # fmt: skip
def test_the_head_says_what_labels_are(tmp_path, kind, column, cells, classes, labels):
    saved(tmp_path / "set", train=table(range(len(cells)), cells, column))
    source = Hfds(str(tmp_path / "set"), label="label", label_kind=kind)
    assert source.info.classes == classes
    np.testing.assert_allclose(source.split("train").labels, labels)


def test_several_numbers_or_classes_stand_in_columns(tmp_path):
    rows = table(range(3), [1.5, 2.5, 3.5], Value("float64"))
    rows = rows.add_column("y", [1, 0, 1]).add_column("z", [0, 0, 1])
    saved(tmp_path / "set", train=rows, test=rows)
    points = Hfds(str(tmp_path / "set"), label=("label", "y"), label_kind="number")
    assert points.info.numbers == ("label", "y")
    np.testing.assert_array_equal(points.split("test").labels, [[1.5, 1], [2.5, 0], [3.5, 1]])
    tags = Hfds(str(tmp_path / "set"), label=("y", "z"), label_kind="multilabel")
    assert tags.info.classes == ("y", "z")
    np.testing.assert_array_equal(tags.split("train").labels, [[1, 0], [0, 0], [1, 1]])
    refused(Hfds(str(tmp_path / "set"), label=("y", "zz")), "no column 'zz' that can be its label")
