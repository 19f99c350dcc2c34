"""Distillation: a student learns the labels and what a trained teacher says of every picture.

The teacher's probabilities of the wrong classes tell how pictures resemble each other, so that a
small network comes closer to a large one than by labels alone (Hinton et al. 2015,
arXiv:1503.02531, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from jax import Array

from tlx.errors import ConfigError
from tlx.model import Model
from tlx.protocols import Brought, ForwardFn, Phase
from tlx.run_file.run_config import DivergenceConfig, SourceConfig
from tlx.types import Batch, Constants, Forward, Mode, NormPolicy, Variables
from tlx_strategies.finetune import Finetune


@final
@dataclass(frozen=True)
class Distill:
    """Fine-tune under (1 - alpha) * L_T + alpha * T² KL(p_T || p_S), a mean per example.

    The second term is the divergence `distillation`, against a source model of the same classes:

    Args:
        teacher: folder of the run that trained the teacher; None where the run file has a table
            [sources.NAME] for it.
        source: that NAME.
        temperature: T, which divides both networks' logits before the softmax.
        alpha: weight of the teacher's word against the labels', above 0 and at most 1.
        backbone_lr, norm: as in `finetune`.
    """

    teacher: str | None = None
    source: str = "teacher"
    temperature: float = 4.0
    alpha: float = 0.9
    backbone_lr: float = 1.0
    norm: NormPolicy = "train"

    def __post_init__(self) -> None:
        """Refuse options without a meaning."""
        if not 0 < self.alpha <= 1:
            raise ConfigError(
                f"alpha is the weight of the teacher against the labels, above 0 and at most 1, "
                f"not {self.alpha}. The strategy 'finetune' learns from the labels alone."
            )
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature divides the logits and must be above 0, not {self.temperature}. "
                f"1 takes the probabilities as they are, more flattens them."
            )
        if self.source == "source":
            raise ConfigError(
                "source = 'source' names the model that the student starts from, which is no "
                "teacher. Give `teacher`, the folder of a run, or name a [sources.NAME] table."
            )
        self._finetune()

    @property
    def brings(self) -> Brought:
        """The divergence, and the teacher where it is the folder of a run."""
        term = DivergenceConfig(
            name="distillation",
            options={"temperature": self.temperature},
            weight=self.alpha,
            source=self.source,
        )
        return Brought(
            (term,), {} if self.teacher is None else {self.source: SourceConfig(run=self.teacher)}
        )

    def init(self, rng: Array, model: Model, batch: Batch) -> Variables:
        """Nothing of its own."""
        return self._finetune().init(rng, model, batch)

    def phases(self, model: Model, steps: int) -> tuple[Phase, ...]:
        """One phase. Raises ConfigError without a head."""
        return tuple(
            replace(phase, name="distill", forward=Scaled(phase.forward, 1 - self.alpha))
            for phase in self._finetune().phases(model, steps)
        )

    def _finetune(self) -> Finetune:
        return Finetune(self.backbone_lr, self.norm)


@final
@dataclass(frozen=True)
class Scaled:
    """A pass whose loss counts `share` while training; what is reported of the validation and test
    splits stays comparable with other strategies'."""

    forward: ForwardFn
    share: float

    def __call__(
        self,
        model: Model,
        variables: Variables,
        batch: Batch,
        constants: Constants,
        *,
        rng: Array,
        mode: Mode,
        progress: Array,
    ) -> Forward:
        """The same pass with its loss (B,) times `share`, but for mode 'eval'."""
        whole = self.forward(
            model, variables, batch, constants, rng=rng, mode=mode, progress=progress
        )
        return whole if mode == "eval" else whole._replace(loss=self.share * whole.loss)
