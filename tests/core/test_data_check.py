"""What is wrong with data is found before anything is trained on them, and named."""

import json

import numpy as np
import pytest
from PIL import Image
from tlx_data.arrays import Arrays
from tlx_data.image_info import image_info
from tlx_image import ImageInput

import tlx
from tlx import cli, registry
from tlx.contracts.input import ports_of
from tlx.data.data_check import check
from tlx.data.splits import Subset, cut
from tlx.errors import DataError

CLASSES = ("ant", "bee")


@pytest.fixture
def folder(tmp_path):
    """Two classes of noise in two splits."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for name in CLASSES:
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 256, (4, 4, 3), np.uint8)
                picture = Image.fromarray(noise).resize((40, 30), Image.Resampling.BICUBIC)
                picture.save(place / f"{number}.png")
    return tmp_path / "photos"


def checked(folder, also=None, **how):
    source = registry.build("datasets", "folder", {"path": str(folder)})
    parts = cut(source, val=4, seed=0).parts | ({"domain": also} if also else {})
    return check(parts, source.info, **how)


def of_classes(*classes):
    return image_info("some", None, classes, {}, "f")


def only(found):
    (finding,) = found.findings
    return finding


def test_nothing_is_said_of_good_data(folder):
    found = checked(folder, ports=ports_of(ImageInput(canvas=(40, 30))))
    assert found.findings == ()
    assert (found.looked, found.pictures) == (36, 36)
    assert {name: sum(each.values()) for name, each in found.counts.items()} == {
        "train": 20, "val": 4, "test": 12,
    }  # fmt: skip


def test_pictures_that_cannot_be_read(folder):
    whole = (folder / "train" / "bee" / "3.png").read_bytes()
    (folder / "train" / "bee" / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "test" / "ant" / "1.png").write_text("not a picture")
    finding = only(checked(folder))
    assert (finding.level, finding.text) == ("broken", "2 pictures cannot be read.")
    assert [name in " ".join(finding.files) for name in ("bee/3.png", "ant/1.png")] == [True, True]


def test_a_decompression_bomb(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    finding = only(checked(folder))
    assert finding.text == "36 pictures cannot be read."
    assert "too large" in finding.files[0]
    assert finding.files[-1] == "31 more"


def test_pictures_in_two_splits(folder):
    (folder / "test" / "ant" / "0.png").write_bytes((folder / "train/ant/5.png").read_bytes())
    near = Image.open(folder / "train" / "bee" / "7.png").resize((80, 60))
    near.save(folder / "test" / "bee" / "2.png")
    error, warning = checked(folder).findings
    assert error.level == "error"
    assert "is in 'train', too" in error.text or "is in 'val', too" in error.text
    assert "test/ant/0.png" in error.files[0]
    assert "train/ant/5.png" in error.files[0]
    assert warning.level == "warning"
    assert "nearly" in warning.text
    assert "test/bee/2.png" in warning.files[0]
    assert "train/bee/7.png" in warning.files[0]


def test_a_picture_in_two_classes(folder):
    (folder / "train" / "ant" / "0.png").write_bytes((folder / "train/bee/0.png").read_bytes())
    found = [f for f in checked(folder).findings if "two classes" in f.text]
    assert found[0].level == "error"
    assert "ant/0.png (ant)" in found[0].files[0]
    assert "bee/0.png (bee)" in found[0].files[0]


def test_a_picture_in_two_classes_among_many_of_it(folder):
    """Named are the two places with the two classes, whatever copies lie between them."""
    for number in range(1, 8):
        again = folder / "train" / "ant" / f"{number}.png"
        again.write_bytes((folder / "train/ant/0.png").read_bytes())
    (folder / "test" / "bee" / "5.png").write_bytes((folder / "train/ant/0.png").read_bytes())
    found = [f for f in checked(folder).findings if "two classes" in f.text]
    (pair,) = found[0].files
    first, second = pair.split(" and ")
    assert ("/ant/" in first, first[-6:]) == (True, " (ant)")
    assert ("/test/bee/5.png" in second, second[-6:]) == (True, " (bee)")


def test_a_picture_twice_in_a_split_that_is_in_another_too(folder):
    for name in ("3.png", "4.png"):
        (folder / "test/bee" / name).write_bytes((folder / "train/bee/0.png").read_bytes())
    (twice,) = [f for f in checked(folder).findings if "more than once" in f.text]
    assert twice.files[0].count("/test/bee/") == 2


def test_one_class_alone(tmp_path, tiny, capsys):
    for number in range(8):
        shade = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        (tmp_path / "p/photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(shade).save(tmp_path / f"p/photos/{number}.png")
    assert cli.main(["data", "check", str(tmp_path / "p")]) == 2
    said = capsys.readouterr()
    assert "of one class, 'photos'" in said.out
    assert "unpacked archive" in said.out
    with pytest.raises(DataError, match="one class alone cannot be learnt"):
        tlx.run(tiny(data=f"folder:{tmp_path / 'p'}", backbone="resnet20"), out=tmp_path / "out")


def test_labels_that_nobody_reads_are_not_judged(folder):
    (folder / "train" / "ant" / "0.png").write_bytes((folder / "train/bee/0.png").read_bytes())
    assert any("two classes" in f.text for f in checked(folder).findings)
    assert not any("two classes" in f.text for f in checked(folder, labelled=False).findings)
    alone = {
        name: Subset(part, np.flatnonzero(part.labels == 0))
        for name, part in cut(
            registry.build("datasets", "folder", {"path": str(folder)}), seed=0
        ).parts.items()
    }
    assert any("one class" in f.text for f in check(alone, of_classes("ant")).findings)
    assert check(alone, of_classes("ant"), labelled=False).findings == ()


def test_the_splits_of_a_check_are_those_that_are_asked_for(folder, capsys):
    assert cli.main(["data", "check", str(folder), "--set", "data.val=10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["counts"]["val"].values()) == 10
    assert "10 of the 24 examples" in found["notes"][0]


def test_a_question_of_a_folder_is_answered_on_the_command_line(folder, capsys):
    (folder / "test").rename(folder / "holdout")
    assert cli.main(["data", "check", str(folder)]) == 2
    assert "--set data.splits.holdout=" in capsys.readouterr().err
    assert cli.main(["data", "check", str(folder), "--set", "data.splits.holdout=test"]) == 0
    assert "Nothing is wrong with the 36" in capsys.readouterr().out


def test_a_class_without_a_picture_to_train_on_is_refused(folder, tiny, tmp_path):
    for name in ("train", "test"):
        for file in (folder / name).glob("*/*.png"):
            if file.stem != "0":
                file.unlink()
    table = tiny(data={"name": "folder", "path": str(folder)}, backbone="resnet20")
    with pytest.raises(DataError, match=r"'(ant|bee)' cannot be learnt: all there is of it \(2\)"):
        tlx.run(table, out=tmp_path / "out")


def test_pictures_that_show_nothing_and_more_than_once(folder):
    for number in (0, 1):
        Image.new("RGB", (9, 9), "red").save(folder / "train" / "ant" / f"{number}.png")
    (folder / "train" / "bee" / "1.png").write_bytes((folder / "train/bee/0.png").read_bytes())
    found = {f.text: f for f in checked(folder).findings}
    assert "2 pictures of one colour show nothing." in found
    assert all("two classes" not in text for text in found)
    assert any("more than once" in text or "in 'train', too" in text for text in found)


def test_a_class_in_one_split_only(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 8, 8, 3), np.uint8)
    path = tmp_path / "lop.npz"
    np.savez(
        path, x_train=image[:20], y_train=np.arange(20) % 2, x_val=image[20:25],
        y_val=np.arange(5) % 2, x_test=image[25:], y_test=np.arange(5) % 3,
        class_names=np.array(["a", "b", "c"]),
    )  # fmt: skip
    source = registry.build("datasets", "npz", {"path": str(path)})
    found = check(cut(source, seed=0).parts, source.info).findings
    texts = {f.text: f.level for f in found}
    assert texts["1 class without a picture in 'train' cannot be learnt."] == "error"
    assert texts["1 class without a picture in 'val' cannot be selected for."] == "warning"
    assert all(f.files == ("c",) for f in found)


def test_pictures_unlike_what_the_network_expects(folder):
    dark = ports_of(ImageInput(mean=(0.01,) * 3, std=(0.01,) * 3, canvas=(32, 32)))
    found = checked(folder, ports=dark).findings
    assert found
    assert all(f.level == "warning" for f in found)


def test_other_pictures_may_have_other_classes(folder):
    """Of a second domain, say; whether they can be read is all that matters."""
    more = Subset(cut(registry.build("datasets", "digits"), seed=0).train, np.arange(30))
    found = checked(folder, also=more)
    assert (found.findings, found.looked) == ((), 66)
    assert found.counts.keys() == {"train", "val", "test"}


def test_a_few_of_many(folder):
    found = checked(folder, limit=9)
    assert (found.looked, found.pictures) == (9, 36)


@pytest.fixture
def labelled(tmp_path):
    """A table of 20 pictures with two numbers, of which one is far off, and two tags."""
    rows = ["image,price,age,tags"]
    for number in range(20):
        shade = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(shade).save(tmp_path / f"{number}.png")
        price = -999 if number == 3 else 1000 + 10 * number
        rows.append(f"{number}.png,{price},{20 + number},{'cat|dog' if number % 2 else 'cat'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return str(tmp_path / "t.csv")


def test_targets_of_a_regression_are_summed_up_and_odd_ones_named(labelled, capsys):
    assert (
        cli.main(
            [
                "data",
                "check",
                labelled,
                "--head",
                "regression",
                "--set",
                'data.label=["price", "age"]',
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    for row in ("price mean", "price least", "age std", "age most"):
        assert f"\n{row} " in printed
    assert "1 of the prices is far from all others" in printed
    assert "3.png (-999)" in printed
    cli.main(["data", "check", labelled, "--set", "head=regression", "data.label=age", "--json"])
    targets = json.loads(capsys.readouterr().out)["targets"]
    assert list(targets) == ["age"]
    assert set(targets["age"]) == {"train", "val", "test"}


def test_several_labels_of_a_picture_are_counted_by_class(labelled, capsys, tmp_path):
    args = [labelled, "--head", "multilabel", "--set", "data.label=tags"]
    assert cli.main(["data", "check", *args, "--sheet", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    counts = {line.split()[0]: [*map(int, line.split()[1:4])] for line in printed.splitlines()[1:4]}
    assert sum(counts["cat"]) == sum(counts["all"]) == 20
    assert sum(counts["dog"]) == 10


def test_a_picture_with_two_targets_is_named(tmp_path):
    shade = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), np.uint8)
    images = shade[[0, 0, 1]]
    split = Arrays(images, np.asarray([1.5, 2.5, 3], np.float32))
    other = Arrays(shade[2:], np.asarray([2.0], np.float32))
    parts = {"train": split, "val": other, "test": other}
    found = check({k: Subset(v, np.arange(len(v)), k) for k, v in parts.items()}, of_classes())
    text = next(f for f in found.findings if "two labels" in f.text)
    assert text.level == "error"
    assert text.files == ("train[0] (1.5) and train[1] (2.5)",)


def test_the_command_prints_a_table_and_draws_a_sheet(folder, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert cli.main(["data", "check", str(folder), "--sheet", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "Nothing is wrong with the 36 pictures" in said
    page = np.asarray(Image.open(sheet))
    assert page.shape[0] > 2 * 96
    assert (page != 255).any(-1).mean() > 0.4
    (folder / "train" / "bee" / "3.png").write_bytes(b"")
    assert cli.main(["data", "check", str(folder), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["findings"][0]["level"] == "broken"
    assert "1 error makes a result on these data wrong" in said.err


def test_a_run_is_refused_before_its_first_step(folder, tiny, tmp_path):
    (folder / "train" / "bee" / "3.png").write_bytes(b"")
    data = {"name": "folder", "path": str(folder), "val": 4}
    table = tiny(data=data, backbone="resnet20")
    with pytest.raises(DataError, match=r"(?s)1 picture cannot be read.*bee/3\.png"):
        tlx.run(table, out=tmp_path / "out")


def test_a_run_says_what_it_found_and_looks_once(tiny, pictures, tmp_path, monkeypatch, capsys):
    with np.load(pictures) as file:
        arrays = dict(file)
    arrays["x_test"][0] = arrays["x_train"][0]
    np.savez(tmp_path / "leaky.npz", **arrays)
    table = tiny(data={"name": "npz", "path": str(tmp_path / "leaky.npz"), "val": 21}, steps=1)
    tlx.run(table, out=tmp_path / "one")
    assert "1 picture of 'test' is in 'train', too" in (said := capsys.readouterr().out)
    assert "test[0] = train[0]" in said
    monkeypatch.setattr("tlx.reporting.first_look.check", None)  # is not called a second time
    tlx.run(table, out=tmp_path / "two")
    assert "1 picture of 'test' is in 'train', too" in capsys.readouterr().out
