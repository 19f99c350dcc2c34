"""What a run has forgotten, held against what its folders hold."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tmp_path_factory.mktemp("source") / "run"


@pytest.fixture
def begun(tiny, source):
    """A finished run, whose backbone is the source."""
    if not source.exists():
        tlx.run(tiny(name="first", steps=30), out=source)
    return {"name": "run", "path": str(source)}


def leaves(run):
    return load_file(run / "model" / "model.safetensors")


def test_a_finetuned_run_says_what_became_of_its_source(tiny, begun, source, tmp_path, capsys):
    optimizer = {"name": "adam", "learning_rate": 0.05}
    out = tmp_path / "out"
    found = tlx.run(tiny(weights=begun, optimizer=optimizer), out=out)["forgetting"]
    then, now = leaves(source), leaves(out)
    body = [path for path in then if path.startswith("params/backbone/")]
    for name, paths in {
        "backbone": body, **{s: [p for p in body if f"/{s}/" in p] for s in ("stage1", "stage2")}
    }.items():  # fmt: skip
        moved = sum(np.square(now[path] - then[path]).sum() for path in paths)
        size = sum(np.square(then[path]).sum() for path in paths)
        assert found["drift"][name] == pytest.approx(np.sqrt(moved / size), rel=1e-5)
    assert set(found["cka"]) == {"stage1", "stage2", "pooled"}
    assert found["cka"]["stage2"] == pytest.approx(found["cka"]["pooled"])
    assert all(value < 0.99999 for value in found["cka"].values())
    first = json.loads((source / "result.json").read_text())
    assert found["source"]["before"] == pytest.approx(first["test"]["accuracy"])
    assert found["source"]["examples"] == found["examples"] == 50
    assert found["source"]["after"] != found["source"]["before"]
    assert found["kl"] > 0
    said = capsys.readouterr().out
    assert "The backbone has moved by" in said
    assert "On its own task, first," in said


def test_the_sources_answers_are_those_of_its_own_head(tiny, begun, source, pictures, tmp_path):
    """The same numbers from the two folders, by prediction."""
    out = tmp_path / "out"
    found = tlx.run(tiny(weights=begun), out=out)["forgetting"]
    first, last = tlx.load(source), tlx.load(out)
    with np.load(pictures) as file:
        x, y = file["x_test"], file["y_test"]
    then = first.predict(x)
    body = last.variables.params["backbone"], last.variables.state["backbone"]
    params = {**first.variables.params, "backbone": body[0]}
    state = {**first.variables.state, "backbone": body[1]}
    mixed = type(first)(
        first.model, type(first.variables)(params, state), first.classes, first.fields
    )
    now = mixed.predict(x)
    alike = np.mean([a["class"] == b["class"] for a, b in zip(then, now, strict=True)])
    assert found["agreement"] == pytest.approx(alike)
    right = np.mean([a["class"] == first.classes[label] for a, label in zip(now, y, strict=True)])
    assert found["source"]["after"] == pytest.approx(right)
    p, q = (np.array([each["probabilities"] for each in some]) for some in (then, now))
    assert found["kl"] == pytest.approx(np.mean((p * np.log(p / q)).sum(1)), rel=1e-3)


def test_nothing_is_forgotten_where_nothing_moves(tiny, begun, tmp_path, capsys):
    found = tlx.run(tiny(weights=begun, strategy="feature_transfer"), out=tmp_path / "out")
    assert found["forgetting"] == {"drift": {"backbone": 0.0, "stage1": 0.0, "stage2": 0.0}}
    assert "nothing is forgotten" in capsys.readouterr().out


def test_without_weights_there_is_no_source(tiny, tmp_path):
    assert "forgetting" not in tlx.run(tiny(steps=2), out=tmp_path / "out")


def test_nothing_that_a_strangers_run_names_is_run(tiny, begun, source, tmp_path):
    """Its model and its data would be looked at again at the end."""
    theirs = tmp_path / "theirs"
    shutil.copytree(source, theirs)
    (tmp_path / "data.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    run_file = theirs / "run.toml"
    data = f'[data]\nname = "{tmp_path}/data.py:Data"\n'
    run_file.write_text(re.sub(r"\[data\]\n(.+\n)+", data, run_file.read_text()))
    weights = {"name": "run", "path": str(theirs)}
    found = tlx.run(tiny(weights=weights, steps=2), out=tmp_path / "out")["forgetting"]
    assert "kl" in found
    assert "source" not in found
    assert not (tmp_path / "ran").exists()
    trusted = tiny(weights=weights | {"trust_code": True}, steps=2)
    tlx.run(trusted, out=tmp_path / "again")
    assert (tmp_path / "ran").exists()


def test_without_the_sources_data_the_rest_is_measured(tiny, begun, source, tmp_path):
    run_file = source / "run.toml"
    text = run_file.read_text()
    run_file.write_text(text.replace("colours.npz", "gone.npz"))
    try:
        trusted = begun | {"trust_code": True}  # it is not as it was written any more
        found = tlx.run(tiny(weights=trusted, steps=2), out=tmp_path / "out")["forgetting"]
    finally:
        run_file.write_text(text)
    assert "source" not in found
    assert "kl" in found
