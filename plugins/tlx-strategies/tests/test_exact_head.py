"""The exact head beside scikit-learn's estimators and solved normal equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from tlx_strategies.exact_head import PATH, ExactHead
from tlx_strategies.feature_transfer import FeatureTransfer
from tlx_strategies.probe_then_finetune import ProbeThenFinetune

from tlx import registry
from tlx.contracts.phase import Examples
from tlx.errors import ConfigError, DivergedError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import world
from tlx.trees import flat, groups
from tlx.types import Batch, Variables

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CLASSES, WIDTH, COUNT = 4, 12, 90
CENTRES = 1.5 * RNG.normal(size=(CLASSES, WIDTH))
LABEL = np.arange(COUNT) % CLASSES
FEATURE = CENTRES[LABEL] + RNG.normal(size=(COUNT, WIDTH))
TRAIN, VAL = slice(0, 60), slice(60, 90)


def head(name="softmax", **options):
    return registry.build(
        "heads", name, {"classes": CLASSES} | options if name != "regression" else options
    )


def examples(feature, label, weight=None):
    count = len(label)
    weight = jnp.ones(count) if weight is None else jnp.asarray(weight)
    inputs, targets = {"image": np.zeros((1, 8, 8, 3), np.uint8)}, {"label": jnp.asarray(label)}
    batch = Batch(inputs, targets, jnp.arange(count), weight)
    return Examples({"pooled": jnp.asarray(feature)}, batch)


def solve(made, path, train, val=None, start=None):
    model = Model(ToyBackbone(), made, ToyBackbone().inputs)
    start = made.init(KEY, train.features) if start is None else start
    variables = Variables({"head": start.params}, {"head": start.state})
    return ExactHead(path)(model, variables, train, val or train, rng=KEY)


def centred(bias):
    """A number added to every bias changes no probability; scikit-learn's have mean 0."""
    return np.asarray(bias) - np.asarray(bias).mean()


def objective(params, l2, x=FEATURE[TRAIN], y=LABEL[TRAIN]):
    """Mean cross-entropy and penalty in numpy float64."""
    kernel = np.asarray(params["kernel"], np.float64)
    z = x @ kernel + np.asarray(params["bias"], np.float64)
    task = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
    return task.mean() + l2 / 2 * np.sum(kernel**2)


def sklearn_fit(l2, x=FEATURE[TRAIN], y=LABEL[TRAIN], solver="newton-cg", **more):
    made = LogisticRegression(C=1 / (l2 * len(y)), solver=solver, tol=1e-9, max_iter=20_000)
    made.fit(x, y, **more)
    return {"kernel": made.coef_.T, "bias": made.intercept_}


@pytest.mark.parametrize("solver", ["newton-cg", "lbfgs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_scikit_learns_logistic_regression(dtype, solver):
    l2 = 0.01
    theirs = sklearn_fit(l2, solver=solver)
    with jax.enable_x64(dtype == np.float64):
        found = solve(head(), (l2,), examples(FEATURE[TRAIN].astype(dtype), LABEL[TRAIN])).head
        assert found["kernel"].dtype == dtype
    assert abs(objective(found, l2) - objective(theirs, l2)) < 1e-8
    np.testing.assert_allclose(found["kernel"], theirs["kernel"], atol=1e-4)
    np.testing.assert_allclose(centred(found["bias"]), theirs["bias"], atol=1e-4)


def test_the_end_of_a_path_is_where_a_problem_alone_ends():
    """Warm starts change the way, not the answer."""
    with jax.enable_x64(True):
        train = examples(FEATURE[TRAIN], LABEL[TRAIN])
        wrong = examples(FEATURE[TRAIN], (LABEL[TRAIN] + 1) % CLASSES)
        # On labels that are all wrong the largest penalty, on the right ones the smallest wins.
        for val, l2 in ((train, 1e-4), (wrong, 1.0)):
            path = solve(head(), (1e-2, 1.0, 1e-4), train, val)
            assert path.note.startswith(f"l2 = {l2:g} chosen of 3 on validation")
            alone = solve(head(), (l2,), train)
            assert alone.note == f"l2 = {l2:g}."
            for name in alone.head:
                found, expected = (centred(each.head[name]) for each in (path, alone))
                np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_are_scikit_learns_and_padding_does_not_count():
    weight = RNG.integers(0, 3, 60).astype(float)
    theirs = LogisticRegression(C=1 / (0.1 * weight.sum()), tol=1e-9, solver="newton-cg")
    theirs.fit(FEATURE[TRAIN], LABEL[TRAIN], sample_weight=weight)
    feature = np.where(weight[:, None] > 0, FEATURE[TRAIN], 1e3)
    label = np.where(weight > 0, LABEL[TRAIN], -1)  # no class: NaN where it is not padding
    found = solve(head(), (0.1,), examples(feature, label, weight)).head
    np.testing.assert_allclose(found["kernel"], theirs.coef_.T, atol=1e-4)
    np.testing.assert_allclose(centred(found["bias"]), theirs.intercept_, atol=1e-4)


def test_regression_is_scikit_learns_ridge():
    target = FEATURE @ RNG.normal(size=(WIDTH, 2)) + RNG.normal(size=(COUNT, 2)) + 5
    l2, outputs = 0.03, 2
    ridge = Ridge(alpha=l2 * 60 * outputs / 2, tol=1e-12).fit(FEATURE[TRAIN], target[TRAIN])
    made = head("regression", outputs=outputs)
    with jax.enable_x64(True):
        found = solve(made, (l2,), examples(FEATURE[TRAIN], target[TRAIN]))
    np.testing.assert_allclose(found.head["kernel"], ridge.coef_.T, atol=1e-6)
    np.testing.assert_allclose(found.head["bias"], ridge.intercept_, atol=1e-6)
    x = np.column_stack([FEATURE[TRAIN], np.ones(60)])
    free = np.diag([l2 * 60 * outputs / 2] * WIDTH + [0.0])
    closed = np.linalg.solve(x.T @ x + free, x.T @ target[TRAIN])
    np.testing.assert_allclose(found.head["kernel"], closed[:-1], atol=1e-6)


def test_multilabel_is_one_binary_problem_per_label():
    label = (FEATURE[:, :3] + RNG.normal(size=(COUNT, 3)) > 0).astype(int)
    l2 = 0.02
    made = head("multilabel", classes=3)
    with jax.enable_x64(True):
        found = solve(made, (l2,), examples(FEATURE[TRAIN], label[TRAIN])).head
    for k in range(3):  # the head's loss is a mean over labels
        theirs = sklearn_fit(3 * l2, y=label[TRAIN, k])
        np.testing.assert_allclose(found["kernel"][:, k], theirs["kernel"][:, 0], atol=1e-5)
        np.testing.assert_allclose(found["bias"][k], theirs["bias"][0], atol=1e-5)


def test_validation_chooses_by_the_heads_own_metric():
    """What scikit-learn finds for every l2, held against validation by hand."""
    path = (1.0, 0.1, 0.01, 0.001)
    train = examples(FEATURE[TRAIN] * 0.3, LABEL[TRAIN])
    noisy = np.where(np.arange(30) % 5 == 0, (LABEL[VAL] + 1) % CLASSES, LABEL[VAL])
    found = solve(head(), path, train, examples(FEATURE[VAL] * 0.3, noisy))
    scores = []
    for l2 in path:
        p = sklearn_fit(l2, FEATURE[TRAIN] * 0.3)
        z = FEATURE[VAL] * 0.3 @ p["kernel"] + p["bias"]
        loss = (np.log(np.exp(z).sum(1)) - z[np.arange(30), noisy]).mean()
        scores.append(((z.argmax(1) == noisy).mean(), -loss, l2))
    best = max(scores)
    assert found.note.startswith(f"l2 = {best[2]:g} chosen of 4 on validation")


def test_of_equals_the_largest_penalty():
    """Without an example of weight on validation all heads are equally good."""
    made = head("regression", outputs=1)
    zero = examples(np.zeros((30, WIDTH)), np.zeros(30))
    found = solve(made, (0.1, 10.0, 1.0), examples(np.zeros((60, WIDTH)), np.zeros(60)), zero)
    assert found.note == (
        "l2 = 10 chosen of 3 on validation, the largest of them: a larger one may be better."
    )


def test_a_class_without_examples():
    """Its bias falls without end; the others' head is as scikit-learn's without that class."""
    few = LABEL[TRAIN] < CLASSES - 1
    x, y = FEATURE[TRAIN][few], LABEL[TRAIN][few]
    found = solve(head(), (0.1,), examples(x, y))
    assert all(np.isfinite(leaf).all() for leaf in found.head.values())
    theirs = sklearn_fit(0.1, x, y)
    ours = {"kernel": found.head["kernel"][:, :-1], "bias": found.head["bias"][:-1]}
    assert abs(objective(ours, 0.1, x, y) - objective(theirs, 0.1, x, y)) < 1e-5
    z = FEATURE[VAL] @ np.asarray(found.head["kernel"]) + np.asarray(found.head["bias"])
    assert (z.argmax(1) < CLASSES - 1).all()


def test_separable_features_with_hardly_a_penalty_stay_finite():
    x = np.eye(CLASSES)[LABEL] * 5
    found = solve(
        head(), (*PATH, 1e-8), examples(x[TRAIN], LABEL[TRAIN]), examples(x[VAL], LABEL[VAL])
    )
    assert all(np.isfinite(leaf).all() for leaf in found.head.values())
    assert "smallest of them: a smaller one may be better" in found.note


def test_the_start_does_not_matter():
    train = examples(FEATURE[TRAIN], LABEL[TRAIN])
    starts = [head().init(jax.random.key(seed), train.features) for seed in (1, 2)]
    one, other = (solve(head(), (0.1,), train, start=start).head for start in starts)
    np.testing.assert_allclose(one["kernel"], other["kernel"], atol=1e-4)
    np.testing.assert_allclose(centred(one["bias"]), centred(other["bias"]), atol=1e-4)


def test_labels_that_are_no_classes():
    with pytest.raises(DivergedError, match="not finite for any l2"):
        solve(head(), (0.1,), examples(FEATURE[TRAIN], LABEL[TRAIN] + 1))


@pytest.mark.parametrize("path", [(), (0.1, 0.0), (-1.0,), (float("inf"),), (float("nan"),)])
def test_a_path_without_an_answer(path):
    for make in (
        ExactHead,
        lambda p: FeatureTransfer("newton", p),
        lambda p: FeatureTransfer(path=p),
    ):
        with pytest.raises(ConfigError, match="one or more numbers above 0"):
            make(path)


def test_a_path_that_nobody_would_take():
    for strategy in (FeatureTransfer, ProbeThenFinetune):
        with pytest.raises(ConfigError, match="Set solver = 'newton'"):
            strategy(path=(0.1,))


def test_strategies_ask_for_it():
    here = world()
    (phase,) = plan(FeatureTransfer("newton", (0.1,)), here.model, here.variables.params, 10)
    assert (phase.phase.solve, phase.phase.steps, phase.phase.norm) == (
        ExactHead((0.1,)),
        10,
        "frozen",
    )
    probe, rest = ProbeThenFinetune(solver="newton").phases(here.model, 10)
    assert (probe.solve, probe.steps, rest.solve, rest.steps) == (ExactHead(), 1, None, 9)
    sent = flat(groups({**here.variables.params, "divergence/x": {"w": 0}}, probe.group))
    assert {path for path, group in sent.items() if group != "frozen"} == {
        "head/kernel",
        "head/bias",
    }
    assert FeatureTransfer().phases(here.model, 10)[0].solve is None
