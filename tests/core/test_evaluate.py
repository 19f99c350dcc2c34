"""Evaluation counts every example once, however they are put into batches."""

import jax
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from tlx import config
from tlx.assemble import assemble
from tlx.evaluate import chosen
from tlx.training.split_metrics import answered, evaluated
from tlx.types import unlabelled

KEY = jax.random.key(0)


@pytest.fixture
def measured(tiny):
    """(metrics of the test split of 50, the experiment) at a batch size."""

    def measured(batch_size):
        experiment = assemble(config.parse(tiny(batch_size=batch_size)))
        found = evaluated(
            experiment, experiment.phases[-1], experiment.variables, experiment.splits.test
        )
        return found.metrics, experiment

    return measured


def test_it_is_the_same_at_any_batch_size_and_scikit_learns(measured):
    found = {size: measured(size) for size in (1, 7, 49, 50, 64)}
    metrics, experiment = found[50]
    for size, (others, _) in found.items():
        assert others.keys() == metrics.keys()
        for name, value in others.items():
            np.testing.assert_allclose(value, metrics[name], rtol=1e-5, err_msg=f"{name} at {size}")
    test, model = experiment.splits.test, experiment.model
    batch = unlabelled({"image": np.stack([test[i]["image"] for i in range(len(test))])})
    features, _ = model.features(experiment.variables, batch, rng=KEY, mode="eval")
    logits, _ = model.apply_head(
        experiment.variables, features, inputs=batch.inputs, rng=KEY, mode="eval"
    )
    shares = np.exp(np.asarray(logits, np.float64))
    shares /= shares.sum(1, keepdims=True)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(test.labels, shares.argmax(1)))
    assert metrics["loss"] == pytest.approx(log_loss(test.labels, shares), rel=1e-4)


@pytest.mark.parametrize("batch_size", [7, 50])
def test_answers_come_from_the_pass_that_measures(tiny, batch_size):
    whole = assemble(config.parse(tiny(batch_size=batch_size)))
    given = whole, whole.final, whole.variables, whole.splits.test
    found, said = answered(*given)
    assert found.metrics == evaluated(*given).metrics
    assert said is not None
    np.testing.assert_array_equal(said["index"], whole.splits.test.indices)
    np.testing.assert_array_equal(said["label"], whole.splits.test.labels)
    right = said["label"] == said["predicted"]
    assert right.mean() == pytest.approx(found.metrics["accuracy"])
    assert 0 < right.sum() < 50, "all or none right, so nothing can be chosen"
    order = np.random.default_rng(0).permutation(50)
    rows = chosen(said, order, 3)
    wrong = [row for row in order if not right[row]][:3]
    assert list(rows) == wrong + [row for row in order if right[row]][:3]
