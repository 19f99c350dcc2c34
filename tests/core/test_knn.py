"""Nearest neighbours by cosine, against scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tlx.numerics.knn import TEMPERATURE, knn_classes, nearest

RNG = np.random.default_rng(0)
KNOWN, ASKED = RNG.normal(size=(60, 5)), RNG.normal(size=(25, 5))
LABELS = RNG.integers(0, 4, 60)


def test_the_nearest_are_scikit_learns():
    theirs = NearestNeighbors(n_neighbors=7, metric="cosine").fit(KNOWN)
    distances, rows = theirs.kneighbors(ASKED)
    similar, ours = nearest(jnp.asarray(KNOWN), jnp.asarray(ASKED), 7)
    np.testing.assert_array_equal(ours, rows)
    np.testing.assert_allclose(similar, 1 - distances, atol=1e-6)


def test_the_vote_is_scikit_learns_with_these_weights():
    def weights(distances):
        return np.exp((1 - distances) / TEMPERATURE)

    theirs = KNeighborsClassifier(9, metric="cosine", algorithm="brute", weights=weights)
    wanted = theirs.fit(KNOWN, LABELS).predict(ASKED)
    arrays = jnp.asarray(KNOWN), jnp.asarray(LABELS), jnp.asarray(ASKED)
    np.testing.assert_array_equal(knn_classes(*arrays, classes=4, neighbours=9), wanted)


def test_fewer_pictures_than_neighbours_all_vote():
    few = jnp.eye(3), jnp.asarray([2, 0, 1]), jnp.eye(3)
    np.testing.assert_array_equal(knn_classes(*few, classes=3, neighbours=20), [2, 0, 1])


def test_a_feature_of_zeros_is_no_number_gone_wrong():
    similar, _ = nearest(jnp.zeros((4, 3)), jnp.zeros((1, 3)), 2)
    np.testing.assert_array_equal(similar, 0)
