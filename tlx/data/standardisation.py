"""Mean and standard deviation of the columns of training rows, gathered in one pass.

Chan et al.'s update (1979, 'Updating formulae and a pairwise algorithm for computing sample
variances') in double precision, which does not lose what a sum of squares loses. A column that
never varies has a deviation of 1, as scikit-learn's StandardScaler has it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tlx.errors import DataError

Moments = tuple[tuple[float, ...], tuple[float, ...]]
TINY = 10 * np.finfo(np.float64).eps
"""The share of a column's mean below which its deviation is rounding."""


def column_moments(rows: Iterable[np.ndarray], what: str) -> Moments:
    """(mean, standard deviation) of the columns of arrays (T,K), over all rows of all of them.
    Raises DataError, saying `what` they are, where there is none and where K differs."""
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    for each in rows:
        each = np.asarray(each, np.float64)
        if count == 0:
            mean, squares = np.zeros(each.shape[1]), np.zeros(each.shape[1])
        if each.shape[1] != len(mean):
            raise DataError(f"{what} have {len(mean)} numbers each, and one has {each.shape[1]}.")
        own, many = each.mean(0), len(each)
        delta, total = own - mean, count + many
        squares += ((each - own) ** 2).sum(0) + delta**2 * (count * many / total)
        mean, count = mean + delta * (many / total), total
    if count == 0:
        raise DataError(f"{what} are none, so that nothing can be said of their mean.")
    std = np.sqrt(squares / count)
    std = np.where(std <= TINY * np.maximum(np.abs(mean), np.finfo(np.float64).tiny), 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())
