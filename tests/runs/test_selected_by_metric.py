"""A run that is selected by a metric of the whole split."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

import tlx
from tlx.run_one import evaluate_run

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Pictures of three classes that hardly differ, eight in ten of the first."""
    rng = np.random.default_rng(0)

    def draw(count):
        label = np.where(np.arange(count) % 10 < 8, 0, 1 + np.arange(count) % 2)
        image = rng.integers(0, 120, (count, 8, 8, 3))
        image[np.arange(count), :, :, label] += rng.integers(0, 40, (count, 8, 8))
        return image.astype(np.uint8), label

    path, parts = tmp_path_factory.mktemp("uneven") / "uneven.npz", {}
    for name, count in {"train": 200, "test": 100, "val": 60}.items():
        parts[f"x_{name}"], parts[f"y_{name}"] = draw(count)
    np.savez(path, **parts, class_names=np.array(NAMES))
    return path


def test_macro_f1_keeps_another_step_and_is_scikit_learns(tiny, uneven, tmp_path):
    """Balanced training of uneven classes: accuracy gains where macro-F1 loses."""
    table = tiny(
        seed=1, batch_size=20, eval_every=0.1, optimizer={"name": "adam", "learning_rate": 0.05},
        data={"name": "npz", "path": str(uneven), "sampling": "balanced"},
        metric=["macro_f1", "auroc"], selection={"metric": "macro_f1"},
    )  # fmt: skip
    out = tmp_path / "run"
    result = tlx.run(table, out=out)
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    told = {e["step"]: e["metrics"] for e in lines if e["kind"] == "eval" and e["split"] == "val"}
    assert len(told) == 12

    def best(metric):
        return max(told, key=lambda step: (told[step][metric], -told[step]["loss"]))

    assert result["selection"] == ["macro_f1", "max"]
    assert result["best_step"] == best("macro_f1") != best("accuracy")
    with np.load(uneven) as arrays:
        for split in ("val", "test"):
            said = tlx.load(out).predict(arrays[f"x_{split}"])
            label = arrays[f"y_{split}"]
            predicted = [NAMES.index(one["class"]) for one in said]
            wanted = f1_score(label, predicted, average="macro", zero_division=0)
            assert result[split]["macro_f1"] == pytest.approx(wanted)
            area = roc_auc_score(label, [one["probabilities"] for one in said], multi_class="ovr")
            assert result[split]["auroc"] == pytest.approx(area, abs=1e-4)
    assert evaluate_run(out)["test"]["macro_f1"] == pytest.approx(result["test"]["macro_f1"])
