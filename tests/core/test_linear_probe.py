"""The linear probe is scikit-learn's logistic regression on standardised features."""

import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tlx.numerics.linear_probe import answers, fitted, linear_probe

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 6))


def drawn(count):
    labels = RNG.integers(0, 4, count)
    noise = RNG.normal(size=(count, 6)) * [1, 2, 0.1, 5, 1, 1]
    return (CENTRES[labels] + 0.6 * noise).astype(np.float32), labels


def test_it_says_what_scikit_learns_says():
    features, labels = drawn(120)
    queries, _ = drawn(300)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=1000))
    wanted = theirs.fit(features, labels).predict(queries)
    ours = linear_probe(*map(jnp.asarray, (features, labels, queries)), classes=4)
    assert np.mean(np.asarray(ours) == wanted) >= 0.996  # one on a border may fall either way


def test_a_dimension_that_never_changes_says_nothing():
    features, labels = drawn(60)
    still = np.concatenate([features, np.full((60, 1), 7, np.float32)], 1)
    both = [
        linear_probe(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(x), classes=4)
        for x in (features, still)
    ]
    np.testing.assert_array_equal(*both)


def test_weights_are_so_many_of_each_example():
    features, labels = drawn(60)
    weight = np.arange(60) % 3
    repeated = np.repeat(features, weight, axis=0), np.repeat(labels, weight)
    queries = jnp.asarray(drawn(100)[0])
    one = fitted(
        jnp.asarray(features),
        jnp.asarray(labels),
        classes=4,
        weight=jnp.asarray(weight, jnp.float32),
    )
    other = fitted(*map(jnp.asarray, repeated), classes=4)
    np.testing.assert_allclose(answers(one, queries), answers(other, queries), atol=1e-3)
