"""Curves of a run: what was measured of the features is there, in its own units and marked."""

from tlx_report.progress import figures

START = {"selection": ("loss", "min"), "divergences": [], "phases": [{"name": "all", "steps": 9}]}
HEALTH = {"feature_std": 0.5, "rankme": 9.0, "knn_accuracy": 0.3, "probe_accuracy": 0.4}


def evaluated(step, metrics):
    return {"kind": "eval", "step": step, "split": "val", "metrics": metrics, "best": step > 0}


def test_what_was_found_of_features_has_its_own_panels_from_the_first_step():
    lines = [evaluated(0, HEALTH), evaluated(9, {**HEALTH, "loss": 1.0})]
    found = dict(figures(START, lines))
    assert list(found) == [
        "Loss",
        "Accuracy of features",
        "Effective rank of features (RankMe)",
        "Deviation of features",
    ]
    for heading, svg in found.items():
        assert ("%" in "".join(svg.split("<text")[1:])) == (heading == "Accuracy of features")
        assert "chosen, step 9" in svg
    assert "nearest neighbours" in found["Accuracy of features"]
    assert "probe" in found["Accuracy of features"]


def test_features_that_nobody_looked_at_have_no_panel():
    train = {"kind": "train", "step": 3, "loss": 1.0, "learning_rate": 0.1}
    accuracy = {"selection": ("accuracy", "max")}
    lines = [train, evaluated(9, {"accuracy": 0.9, "loss": 1.0})]
    found = dict(figures({**START, **accuracy}, lines))
    assert list(found) == ["Loss", "Accuracy", "Learning rate"]
    assert "%" in found["Accuracy"].split("<text", 1)[1]
    assert "chosen" not in found["Learning rate"]
