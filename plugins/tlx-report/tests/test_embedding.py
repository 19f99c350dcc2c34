"""Maps of features: scikit-learn's trustworthiness says whose neighbourhoods a drawing shows."""

import re

import numpy as np
import pytest
from sklearn.manifold import trustworthiness
from tlx_report.embedding import maps

CLASSES = tuple(f"class {i}" for i in range(40))


def groups(seed, labels, d=6):
    """Features in groups, one for each label."""
    rng = np.random.default_rng(seed)
    return 4 * rng.normal(size=(labels.max() + 1, d))[labels] + rng.normal(size=(len(labels), d))


def points(svg):
    """Places (N,2) and colours of the points, in order of the examples."""
    found = re.findall(r'<use xlink:href="[^"]*" x="([^"]*)" y="([^"]*)" style="fill: (#\w+)', svg)
    return np.array([(float(x), -float(y)) for x, y, _ in found]), [c for *_, c in found]


@pytest.fixture(scope="module")
def drawing():
    """40 examples that training has sorted anew."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(40) % 4
    features = {"before": groups(1, rng.permutation(40) % 4), "after": groups(2, labels)}
    return features, labels, maps({**features, "labels": labels}, CLASSES)


def test_each_map_shows_its_own_features(drawing):
    features, _, sheet = drawing
    headings = [heading for heading, *_ in sheet["panels"]]
    assert headings == ["Before training", "After training"]
    before, after = (points(svg)[0] for _, svg, _ in sheet["panels"])
    assert before.shape == after.shape == (40, 2)
    for key, own, other in (("before", before, after), ("after", after, before)):
        assert trustworthiness(features[key], own) > 0.9
        assert trustworthiness(features[key], other) < 0.75


def test_points_have_the_colour_of_their_class_in_the_legend(drawing):
    _, labels, sheet = drawing
    assert [name for _, name in sheet["legend"]] == list(CLASSES[:4])
    legend = {name: colour for colour, name in sheet["legend"]}
    assert len(set(legend.values())) == 4
    for _, svg, _ in sheet["panels"]:
        assert points(svg)[1] == [legend[CLASSES[label]] for label in labels]


def test_a_map_is_the_same_every_time(drawing):
    features, labels, sheet = drawing
    assert maps({**features, "labels": labels}, CLASSES) == sheet


def test_without_labels_there_is_one_colour_and_no_legend():
    features = np.random.default_rng(0).normal(size=(10, 3))
    sheet = maps({"before": features, "after": features, "labels": None}, ())
    assert not sheet["legend"]
    assert not sheet["coloured"]
    assert len(set(points(sheet["panels"][0][1])[1])) == 1


@pytest.mark.parametrize(("count", "named"), [(10, 10), (20, 20), (21, 0)])
def test_more_classes_than_colours_can_tell_apart_have_no_legend(count, named):
    same = np.ones((42, 3))
    sheet = maps({"before": same, "after": same, "labels": np.arange(42) % count}, CLASSES)
    assert len({colour for colour, _ in sheet["legend"]}) == len(sheet["legend"]) == named
    assert sheet["coloured"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.ones((12, 4)), "the same for every picture"),
        (np.full((12, 4), np.nan), "not finite"),
        (np.arange(12.0)[:, None], "one dimension"),
    ],
)
def test_features_without_a_map_say_why_beside_the_other_one(bad, why):
    good = np.random.default_rng(0).normal(size=(12, 4))
    sheet = maps({"before": good, "after": bad, "labels": None}, ())
    (_, svg, silent), (_, none, said) = sheet["panels"]
    assert svg
    assert not silent
    assert not none
    assert why in said


def test_fewer_than_ten_examples_make_a_note():
    features = np.random.default_rng(0).normal(size=(9, 4))
    sheet = maps({"before": features, "after": features, "labels": None}, ())
    assert sheet["note"].endswith("it takes 10 examples, and there are 9.")
    assert maps(None, ()) is None
