"""Task2Vec: whether the target's task needs the filters that the source's own task needs.

Achille et al. 2019, 'Task2Vec: Task Embedding for Meta-Learning' (arXiv:1902.03545), section 3.
The paper embeds each task by its own pictures under one network; a source's pictures are not at
hand, so both tasks are embedded by the target's pictures under the source.
"""

from __future__ import annotations

import numpy as np

from tlx.errors import ScoreError


def task2vec(*, task_embedding: np.ndarray, source_task_embedding: np.ndarray) -> float:
    """−d_cos(F/(F+F'), F'/(F+F')), between −1 and 0, of the mean Fisher information of each filter:
    F for the target's labels with a logistic head, F' for the classes of the source's own head.

    Raises ScoreError where one of them is 0 for every filter."""
    if not task_embedding.any() or not source_task_embedding.any():
        raise ScoreError("The Fisher information is 0 for every filter: the answers are certain.")
    both = task_embedding + source_task_embedding
    target, source = (
        np.divide(one, both, out=np.zeros_like(both), where=both > 0)
        for one in (task_embedding, source_task_embedding)
    )
    lengths = np.linalg.norm(target) * np.linalg.norm(source)
    return float(target @ source / lengths - 1)
