"""NCE: how much is left to know of the label once the source's best guess is known.

Tran et al. 2019, 'Transferability and Hardness of Supervised Classification Tasks'
(arXiv:1908.08142); with the class that the source finds most probable as its label.
"""

from __future__ import annotations

import numpy as np

from tlx_select.classes_there import classes_there
from tlx_select.leep import expected_log


def nce(*, source_outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """−H(Y|Z), the negative conditional entropy in nats, at most 0; the terms log P̂(y|z) (N,).

    Z is the class of largest probability. Raises ScoreError for a single class."""
    number, count = classes_there(labels)
    certain = np.eye(source_outputs.shape[1])[source_outputs.argmax(1)]
    return expected_log(certain, number, count)
