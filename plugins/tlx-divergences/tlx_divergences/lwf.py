"""Learning without forgetting: the source's own head must go on giving its old answers.

Before the first step the source's answers to the target's pictures are written down, for the
source's classes, which need not be the target's. While the backbone learns the target, the
source's head reads the current features, and what it says is held against what was written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jax import Array

from tlx_divergences.logits import kl_divergence, log_probability_pair, require_temperature


@final
@dataclass(frozen=True)
class LwF:
    """KL(softmax(z⁰/T) ‖ softmax(z_S/T)) in nats, mean per example (and position).

    z_S are the logits of the source's head on the current features, z⁰ those that the source gave
    for the same pictures before the first step, without augmentation and in mode 'eval'. From Li
    and Hoiem 2016 (arXiv:1606.09282, section 3), which raises probabilities to the power 1/T and
    normalises them: that is softmax(z/T). The paper has the cross-entropy, which is more by the
    entropy of the recorded answers, a constant without gradient; it has no factor T², and none is
    here (`distillation` has one). Its weight there is 1.

    Here the source's head stays as it was loaded, so only the backbone is held; in the paper it
    is trained along, after the new head has been warmed up alone (`probe_then_finetune`).

    Args:
        temperature: T; 2 in the paper.
    """

    temperature: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a temperature that is not above 0."""
        require_temperature(self.temperature)

    @property
    def reads(self) -> tuple[str, ...]:
        """Only what the heads read."""
        return ()

    def record(self, *, source_outputs: Array) -> Mapping[str, Array]:
        """`outputs`: the source's logits (B,...,C) as they are before the first step."""
        return {"outputs": source_outputs}

    def __call__(self, *, source_head_outputs: Array, recorded: Mapping[str, Array]) -> Array:
        """A scalar for logits (B,...,C) over the source's classes, 0 where the source's head
        still gives the probabilities it gave. Raises ConfigError for logits over fewer than two
        classes, or where the source has no head."""
        now, then = log_probability_pair(
            source_head_outputs, recorded["outputs"], "lwf", self.temperature
        )
        return kl_divergence(then, now).mean()
