"""Source accuracy: the baseline that is hardest to beat: what is good at its own task first.

Kornblith et al. 2019, 'Do Better ImageNet Models Transfer Better?' (arXiv:1805.08974). It compares
sources that were trained on the same data; between others it means little.
"""

from __future__ import annotations


def source_accuracy(*, source_accuracy: float) -> float:
    """The source's accuracy on its own test data, 0..1."""
    return source_accuracy
