"""A set of permutations that differ from each other in as many places as possible.

The nearer two permutations are, the less a puzzle can be told from its neighbour; and all of the
362,880 of nine tiles are too many classes (Noroozi & Favaro 2016, arXiv:1603.09246).
"""

from __future__ import annotations

from functools import cache
from itertools import chain, permutations

import numpy as np


@cache
def distant(places: int, count: int) -> np.ndarray:
    """`count` different permutations (count,places) of 0..places-1, the identity first.

    Greedy, as algorithm 1 of the paper: the next is the one whose Hamming distances to those
    already chosen have the largest sum; of several the first in lexicographic order. `count` is at
    most places!, and nine places are as many as fit into memory with ease."""
    every = np.fromiter(chain.from_iterable(permutations(range(places))), np.int8)
    every = every.reshape(-1, places)
    chosen, apart = [0], np.zeros(len(every), np.int32)
    while len(chosen) < count:
        apart += (every != every[chosen[-1]]).sum(1, dtype=np.int32)
        apart[chosen[-1]] = np.iinfo(np.int32).min // 2  # never again
        chosen.append(int(apart.argmax()))
    found = every[chosen].astype(np.int32)
    found.flags.writeable = False
    return found
