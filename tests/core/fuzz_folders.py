"""Mutates what runs leave in folders: a program, see `tlx.testing.fuzzing`.

Files of a checkpoint, of a cached table and of a model, and the tables that a resumed run is held
against; each is read as the run, or `tlx.load`, reads it.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from tlx_data.image_info import image_info
from tlx_image.model_images import saved_images

from tlx.checkpoint import Checkpoints
from tlx.data.splits import Subset
from tlx.files import cache_files, manifest
from tlx.model import Model
from tlx.registry import build
from tlx.run_file.run_config import Part
from tlx.run_folder import folder, provenance
from tlx.run_folder.membership import RESUMING
from tlx.run_folder.model_folder import save_model
from tlx.sinks import _kept_before
from tlx.studies import audit_results, auditing, sweep
from tlx.studies.sweep_results import Found
from tlx.testing import toys
from tlx.testing.fuzzing import Input, changed_bytes, changed_value, main
from tlx.types import unlabelled
from tlx.weights.saved import load

TREE = {"train": {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(0)}, "step": 3}
SPACE = {"over": ["optimizer.learning_rate=0.1,0.3"], "seeds": [0, 1], "trials": None}
POINT = {"optimizer.learning_rate": 0.1}
WORDS = ("name", "softmax", "../x", "x.py:Y", "rgb", "float32", toys.__file__ + ":ToyBackbone")


def changed_json(draw, data, other):
    if draw.random() < 0.4:
        return changed_bytes(draw, data, other)
    return json.dumps(changed_value(draw, json.loads(data), WORDS), indent=1).encode()


def files(home, read, *, among="**/*"):
    """Every file below a folder, each to be damaged while the others are whole."""
    for path in sorted(home.glob(among)):
        if path.is_file():
            change = changed_json if path.suffix == ".json" else changed_bytes
            yield Input(path, path.read_bytes(), change, lambda _: read())


def sealed(home, read):
    """The same where somebody has written the manifest anew, so that nothing shows."""
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path.name == manifest.NAME:
            continue

        def again(path):
            kept = (home / manifest.NAME).read_bytes()
            try:
                manifest.commit(home)
                read()
            finally:
                (home / manifest.NAME).write_bytes(kept)

        if path.suffix == ".json":
            yield Input(path, path.read_bytes(), changed_json, again)


class Numbered:
    """A split that knows its labels."""

    labels = np.arange(12) % 3

    def __len__(self):
        return 12

    def __getitem__(self, index):
        raise AssertionError("no picture is read")


def saved(home):
    backbone = toys.ToyBackbone(dropout=0.0)
    model = Model(backbone, build("heads", "softmax", {"classes": 3}), backbone.inputs)
    picture = unlabelled({"image": jnp.zeros((1, 8, 8, 3), jnp.uint8)})
    variables = model.init(jax.random.key(0), picture)
    save_model(
        home, backbone=Part(f"{toys.__file__}:ToyBackbone", {"dropout": 0.0}),
        head=Part("softmax"), **saved_images(backbone.inputs, (8, 8)),
        classes=("a", "b", "c"), variables=variables,
    )  # fmt: skip


def inputs(home):
    with Checkpoints(home / "checkpoints") as checkpoints:
        checkpoints.save(3, TREE, {"of": "x"})
        step = checkpoints.folder(3)

        def restored():
            found = checkpoints.restore(TREE)
            assert found is not None
            assert (np.asarray(found.tree["train"]["w"]) == np.arange(6.0).reshape(2, 3)).all()

        yield from files(step, restored)
        yield from sealed(step, restored)

    tables, rows = home / "tables", {"index": np.arange(6.0, dtype=np.float32)}
    cache_files.written(tables, "key", [rows], lambda: 1.0)

    def table():
        found = cache_files.stored(tables, "key", rows, mapped=False)
        assert found is None or (found.rows["index"] == rows["index"]).all()

    yield from files(tables / "key", table)
    yield from sealed(tables / "key", table)

    saved(home / "model")
    yield from files(home / "model", lambda: load(home / "model", trust_code=True))

    run = home / "run"
    run.mkdir()
    info = image_info("x", (8, 8, 3), ("a", "b", "c"), {"train": 12}, "f")
    splits = {"train": (Subset(Numbered(), np.arange(9)), info.classes)}
    facts = {"data": provenance.of_data(info)}
    provenance.keep(run, facts, splits)
    yield from files(run, lambda: provenance.verify(run, facts, splits, RESUMING))

    (run / folder.RESULT).write_text(json.dumps({"test": {"accuracy": 0.5}, "steps": 3}))
    yield from files(run, lambda: folder.read_result(run), among=folder.RESULT)

    asked = auditing.Asked(5, 3, (10, "all"), resplit=False)
    folder.write_json(run / auditing.ASKED, asked._asdict())

    def audited():
        auditing._check_asked(run / auditing.ASKED, asked, resume=True)

    yield from files(run, audited, among=auditing.ASKED)

    folder.write_json(run / sweep.SPACE, SPACE)

    def swept():
        sweep._check_space(run / sweep.SPACE, SPACE, resume=True)

    yield from files(run, swept, among=sweep.SPACE)

    Found(run / sweep.LINES, "accuracy", "max").add(POINT, [{"accuracy": 0.5, "loss": 1.0}])

    def points():
        found = Found(run / sweep.LINES, "accuracy", "max")
        return found.row(POINT) if POINT in found else found.best() if len(found) else None

    yield from files(run, points, among=sweep.LINES)

    (run / folder.METRICS).write_text('{"kind": "train", "step": 1, "loss": 0.5}\n' * 3)
    yield from files(
        run, lambda: _kept_before(3, run / folder.METRICS).close(), among=folder.METRICS
    )

    np.savez(run / folder.ANSWERS, index=np.arange(9), label=np.arange(9), predicted=np.arange(9))

    def answers():
        audit_results._answers(run / folder.ANSWERS)

    yield from files(run, answers, among=folder.ANSWERS)


if __name__ == "__main__":
    main(inputs)
