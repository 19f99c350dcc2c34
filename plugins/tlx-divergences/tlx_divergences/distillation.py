"""Knowledge distillation: a student learns the softened probabilities of a teacher.

Nothing but `kl` under a higher temperature, at which the teacher's small probabilities tell which
wrong classes resemble the right one. The teacher is the run's source: `source = "NAME"`, where
`[sources.NAME]` may be another architecture.
"""

from __future__ import annotations

from tlx_divergences.kl import KL


def distillation(temperature: float = 4.0) -> KL:
    """T² · KL(softmax(z_teacher/T) ‖ softmax(z_student/T)) in nats, mean per example: `kl` with
    its temperature at 4 (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2).

    The paper weighs this against the labels' cross-entropy; that weight is the divergence's
    `weight` in the run file, and the T² is what lets it stay when T changes.

    Args:
        temperature: T; the paper tries 1 to 20, and 4 is what comparisons of distillation
            usually take.
    """
    return KL(temperature)
