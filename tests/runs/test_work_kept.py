"""What has been learnt is kept: whatever fails afterwards, however long a run is to go on, whoever
else begins in its folder, and whichever run of a study fails."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tlx
from tlx import cli
from tlx.errors import CheckpointError, DataError, Interrupted, StudyError
from tlx.run_folder import lock
from tlx.studies import auditing, sweep
from tlx.study import evaluate

CONSTANT = {"name": "adam", "learning_rate": 0.01, "schedule": "constant"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of small pictures in `p`, with splits of their own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        for split, many in (("train", 8), ("val", 3), ("test", 3)):
            (tmp_path / "p" / split / name).mkdir(parents=True)
            for k in range(many):
                picture = rng.integers(100 * number, 100 * number + 150, (8, 8, 3))
                file = tmp_path / "p" / split / name / f"{k:02}.png"
                Image.fromarray(picture.astype(np.uint8)).save(file)
    monkeypatch.chdir(tmp_path)
    return {"name": "folder", "path": "p", "check": 0}


def of_split(name):
    lines = (line.split(",") for line in Path("r/split.csv").read_text().splitlines()[1:])
    return [line[4] for line in lines if line[0] == name]


def test_a_test_picture_that_cannot_be_read_costs_no_training(folder, tiny, digests, capsys):
    table = tiny(data=folder)
    tlx.run(table, out="r")
    model = digests(Path("r"))
    broken = Path(of_split("test")[0])
    whole = broken.read_bytes()
    shutil.rmtree("r")
    broken.write_bytes(whole[:60])
    with pytest.raises(DataError, match="cannot be read as a picture"):
        tlx.run(table, out="r")
    assert "its model lies in r/model" in " ".join(capsys.readouterr().out.split())
    assert tlx.load("r").predict(of_split("train")[0])[0]["class"] in ("dark", "light")
    assert digests(Path("r"))["model"] == model["model"]

    def again(into, **changes):
        shutil.copytree("r", into)
        result = tlx.run(tiny(data={**folder, **changes}), out=into, resume=True)
        assert digests(Path(into))["model"] == model["model"]
        assert evaluate(into)["test"]["examples"] == result["examples"]["test"]
        return result["examples"]["test"]

    assert again("left out", unreadable="skip") == 5
    broken.write_bytes(whole)
    assert again("mended") == 6
    broken.unlink()
    assert again("removed") == 5
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"1 of its 6 test pictures have gone or cannot be read, and are left out: {broken}." in said
    )


def test_a_run_goes_on_without_a_test_picture_and_with_its_own_splits(
    folder, tiny, digests, monkeypatch
):
    """A cut of what is left would deal all pictures out anew."""
    for file in Path("p/train").glob("*/*"):
        (Path("q") / file.parent.name).mkdir(parents=True, exist_ok=True)
        file.rename(Path("q") / file.parent.name / file.name)
    views = {"augmentation": ["flip"], "cache_views": 2, "strategy": "feature_transfer"}
    table = tiny(data={**folder, "path": "q"}, batch_size=4, **views)
    tlx.run(table, out="whole")

    @contextmanager
    def interruptible():
        count = iter(range(9))
        yield lambda: next(count) > 1

    with monkeypatch.context() as patch:
        patch.setattr("tlx.loop.interruptible", interruptible)
        with pytest.raises(Interrupted):
            tlx.run(table, out="r")
    Path(of_split("test")[0]).unlink()
    tlx.run(table, out="r", resume=True)
    assert digests(Path("r")) == digests(Path("whole"))
    trained = Path(of_split("train")[0])
    shutil.copytree("r", "changed")
    (Path("changed") / "result.json").unlink()
    content = trained.read_bytes()
    trained.write_bytes(content + b"0")
    with pytest.raises(CheckpointError, match=r"Cannot resume: data.fingerprint is not"):
        tlx.run(table, out="changed", resume=True)
    trained.unlink()
    with pytest.raises(CheckpointError, match=rf"Cannot resume: data.splits .*{trained} is gone"):
        tlx.run(table, out="changed", resume=True)


def test_a_training_picture_that_breaks_costs_no_step(folder, tiny, digests, monkeypatch):
    table = tiny(data=folder, batch_size=4, steps=40, eval_every=99)
    tlx.run(table, out="whole")
    before = {file: file.read_bytes() for file in sorted(Path("p/train").glob("*/*"))[:3]}

    @contextmanager
    def interruptible():
        steps = iter(range(99))

        def breaking():
            if next(steps) == 2:
                for file, content in before.items():
                    file.write_bytes(content[:60])
            return False

        yield breaking

    with monkeypatch.context() as patch:
        patch.setattr("tlx.loop.interruptible", interruptible)
        with pytest.raises(DataError, match="cannot be read as a picture"):
            tlx.run(table, out="r")
    (there,) = [int(path.name) for path in Path("r/checkpoints").iterdir() if path.name.isdigit()]
    assert 3 <= there < 40
    with pytest.raises(CheckpointError, match=r"pictures themselves are others.* Bring it back"):
        tlx.run(tiny(**{**table, "data": {**folder, "unreadable": "skip"}}), out="r", resume=True)
    for file, content in before.items():
        file.write_bytes(content)
    tlx.run(table, out="r", resume=True)
    assert digests(Path("r")) == digests(Path("whole"))


def test_pictures_that_cannot_be_read_are_left_out_counted_and_named(folder, tiny, capsys):
    names = ("p/train/dark/02.png", "p/test/light/01.png", "p/val/light/00.png")
    bad = [str(Path(name).absolute()) for name in names]
    for file in bad:
        Path(file).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r'(?s)3 pictures cannot be read.*unreadable = "skip"'):
        tlx.run(tiny(data={**folder, "check": 99}), out="stopped")
    skipping = {**folder, "check": 99, "unreadable": "skip"}
    result = tlx.run(tiny(data=skipping, steps=2), out="r")
    assert result["examples"] == {"train": 15, "val": 5, "test": 5}
    assert sorted(result["left_out"]) == sorted(bad)
    said = " ".join(capsys.readouterr().out.split())
    assert f"1 picture of 'train' cannot be read and is left out: {bad[0]}." in said
    assert of_split("unreadable-test") == [bad[1]]
    for file in bad:
        Path(file).unlink()
    assert tlx.run(tiny(data=skipping, steps=4), out="r", resume=True)["steps"] == 4
    assert of_split("unreadable-test") == []
    assert evaluate("r")["test"]["examples"] == 5


def test_what_only_a_report_wants_costs_no_result(tiny, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise MemoryError

    monkeypatch.setattr("tlx.run_one.forgotten", failing)
    result = tlx.run(tiny(), out=tmp_path / "run")
    assert "forgetting" not in result
    assert "could not be made, and is left out: MemoryError" in capsys.readouterr().out


def test_a_finished_run_says_so_and_goes_on_for_longer(tiny, tmp_path, digests, capsys):
    """With a constant rate it ends bit by bit as one that was as long from the beginning."""
    tlx.run(tiny(optimizer=CONSTANT), out=tmp_path / "whole")
    short, out = tiny(optimizer=CONSTANT, steps=6), tmp_path / "run"
    first = tlx.run(short, out=out)
    capsys.readouterr()
    assert tlx.run(short, out=out, resume=True) == first
    assert "tiny is finished: 6 steps" in capsys.readouterr().out
    longer = tiny(optimizer=CONSTANT, log_every=3, checkpoint_seconds=60.0, patience=50)
    assert tlx.run(longer, out=out, resume=True)["steps"] == 12
    assert "started for 6 steps and goes on to 12." in capsys.readouterr().out
    assert digests(out) == digests(tmp_path / "whole")
    assert tlx.config.read(out).steps == 12  # of the model and the result that are there
    with pytest.raises(CheckpointError, match="at step 12 already, and would now end at 8"):
        tlx.run(tiny(optimizer=CONSTANT, steps=8, patience=50), out=out, resume=True)
    assert evaluate(out)["test"]["examples"] == 50


def test_a_schedule_over_the_whole_run_is_said(tiny, tmp_path, capsys):
    tlx.run(tiny(steps=6), out=tmp_path / "run")
    capsys.readouterr()
    tlx.run(tiny(), out=tmp_path / "run", resume=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "goes on to 12. From here on it is what a run of 12 steps is at step 6" in said
    assert "(a learning rate of 0.005 where it had come to 0)" in said


def test_a_longer_run_would_be_in_another_phase(tiny, tmp_path):
    probe = {"name": "probe_then_finetune", "probe": 0.5}
    tlx.run(tiny(steps=4, strategy=probe), out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"in its phase 'finetune'.* would be in 'probe'"):
        tlx.run(tiny(steps=12, strategy=probe), out=tmp_path / "run", resume=True)


def test_more_patience_goes_on(tiny, tmp_path, capsys):
    still = {"name": "adam", "learning_rate": 1e-30}
    assert tlx.run(tiny(patience=1, optimizer=still), out=tmp_path / "run")["steps"] < 12
    assert tlx.run(tiny(patience=9, optimizer=still), out=tmp_path / "run", resume=True)
    assert tlx.config.read(tmp_path / "run").patience == 9
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 12


def test_the_folder_is_held_while_a_run_writes_into_it(tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"
    file = tmp_path / "tiny.toml"
    file.write_text(tlx.config.tomli_w.dumps(tiny()))
    begins = {
        "new": lambda: tlx.run(tiny(), out=out),
        "resumed": lambda: tlx.run(tiny(), out=out, resume=True),
        "replaced": lambda: tlx.run(tiny(), out=out, overwrite=True),
        "sweep": lambda: sweep.sweep(file, ["optimizer.learning_rate=0.1,0.2"], out=out),
        "audit": lambda: auditing.audit(file, sets=["weights=x.npz"], out=out),
    }
    with lock.held(out):
        (out / "run.toml").write_text("kept")
        for begin in begins.values():
            with pytest.raises(CheckpointError, match="Another run is writing into"):
                begin()
    assert [path.name for path in out.iterdir()] == ["run.toml"]
    assert (out / "run.toml").read_text() == "kept"


def test_variants_beside_one_that_fails_are_trained(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.py").write_text(
        "def late(*, features):\n    raise ValueError('no such thing')\n"
    )
    variants = [
        {"name": "one"},
        {"name": "two", "divergence": [{"name": "late.py:late", "weight": 0.1}]},
        {"name": "three", "seed": 1},
    ]
    table = tiny(steps=4, variant=variants)
    with pytest.raises(StudyError, match=r"(?s)1 of 3 variants failed:\n  two: .*--resume"):
        tlx.run(table, out="r")
    assert cli._said(StudyError("x"))[1] == cli.FAILED
    assert "two failed, and the other variants go on" in " ".join(capsys.readouterr().out.split())
    found = json.loads(Path("r/result.json").read_text())
    assert list(found["variants"]) == ["one", "three"]
    assert list(found["failed"]) == ["two"]
    assert cli.main(["eval", "r", "--json"]) == cli.FAILED
    said = capsys.readouterr()
    measured = json.loads(said.out)
    assert measured["one"]["test"]["accuracy"] == found["variants"]["one"]["test"]["accuracy"]
    assert "no model" in measured["two"]["failed"]
    assert "1 of 3 could not be measured: two" in said.err
    (tmp_path / "late.py").write_text(
        "def late(*, features):\n    return sum((f**2).mean() for f in features.values())\n"
    )
    capsys.readouterr()
    found = tlx.run(table, out="r", resume=True)
    assert list(found["variants"]) == ["one", "two", "three"]
    said = capsys.readouterr().out
    assert "tiny-one is finished" in said
    assert "tiny-three is finished" in said


@pytest.mark.slow
def test_points_beside_one_that_fails_are_trained(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tlx.config.tomli_w.dumps(tiny(steps=2)))
    real, trained = sweep.assemble, []

    def assembled(config):
        trained.append(config.batch_size)
        if config.batch_size == 9 and len(trained) < 5:
            raise DataError("There is no such thing.")
        return real(config)

    monkeypatch.setattr(sweep, "assemble", assembled)
    with pytest.raises(StudyError, match=r"(?s)1 of 2 points failed:.*There is no such thing"):
        sweep.sweep("tiny.toml", ["batch_size=9,10"], out="s")
    assert json.loads(Path("s/result.json").read_text())["chosen"] == {"batch_size": 10}
    monkeypatch.setattr(sweep, "assemble", real)
    found = sweep.sweep("tiny.toml", ["batch_size=9,10"], out="s", resume=True)
    assert len(found["points"]) == 2
    assert "failed" not in found
