"""What lies on the device trains as what is sent there batch by batch.

The CPU of the tests is told that it runs loops well; whether that pays is for accelerators.
"""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import tlx
from tlx.feeding import device_rows, feed

AUGMENTED = {"augmentation": ["flip", {"name": "crop", "padding": 1}, "mixup"]}
DOMAIN = {"divergence": [{"name": "coral", "weight": 0.1}]}
PARTLY = {"strategy": {"name": "finetune", "frozen": ["stage1"]}}


@pytest.fixture
def looping(monkeypatch):
    monkeypatch.setattr(device_rows, "loops_well", lambda: True)


def left(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seen = [line["metrics"] for line in lines if line["kind"] == "eval"]
    return load_file(out / "model" / "model.safetensors"), seen


@pytest.mark.parametrize(
    "changes",
    [
        AUGMENTED,
        PARTLY,
        pytest.param(DOMAIN, marks=pytest.mark.slow),
        pytest.param({"step": {"name": "jit", "accumulate": 2}}, marks=pytest.mark.slow),
    ],
    ids=["augmented", "partly frozen", "domain", "accumulated"],
)
def test_it_ends_as_with_batches_that_are_sent(tiny, tmp_path, monkeypatch, capsys, changes):
    sgd = {"name": "sgd", "learning_rate": 0.05}
    table = tiny(steps=9, eval_every=0.3, optimizer=sgd, **changes)
    if changes is DOMAIN:
        table["domain"] = table["data"]
    tlx.run(table, out=tmp_path / "sent")
    capsys.readouterr()
    monkeypatch.setattr(device_rows, "loops_well", lambda: True)
    calls = []
    numbered = feed._numbered
    monkeypatch.setattr(feed, "_numbered", lambda *given: calls.append(1) or numbered(*given))
    tlx.run(table, out=tmp_path / "there")
    assert calls, "nothing lay on the device"
    assert ("All pictures lie on the device" in capsys.readouterr().out) == (changes is not PARTLY)
    (a, one), (b, other) = left(tmp_path / "sent"), left(tmp_path / "there")
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-3, atol=2e-4, err_msg=name)
    for before, after in zip(one, other, strict=True):
        assert after == pytest.approx(before, rel=1e-3)


def test_what_does_not_fit_is_sent(tiny, tmp_path, looping, monkeypatch):
    monkeypatch.setattr(feed, "ON_DEVICE", 1000)
    monkeypatch.setattr(feed, "_numbered", None)
    assert tlx.run(tiny(steps=8), out=tmp_path / "run")["steps"] == 8


def test_a_cpu_sends_them():
    if jax.default_backend() != "cpu":
        pytest.skip("this is no CPU")
    assert not device_rows.loops_well()
