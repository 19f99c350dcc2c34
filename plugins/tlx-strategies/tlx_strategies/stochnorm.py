"""StochNorm: fine-tuning with batch norm that now and then believes the source.

In every step each channel of each batch norm is normalised either by the batch or by the running
statistics, which begin as the source's, at random with equal chance: a small target set is then
harder to fit by heart (Kou et al. 2020, 'Stochastic Normalization', NeurIPS).
"""

from __future__ import annotations

from tlx_strategies.finetune import Finetune


def stochnorm(
    backbone_lr: float = 1.0, frozen: tuple[str, ...] = (), layer_decay: float = 1.0
) -> Finetune:
    """`finetune` with norm = 'stochastic'; the options are its own. The paper trains the head at
    ten times the rate of the backbone. Only for backbones with a mode 'stochastic'."""
    return Finetune(backbone_lr, "stochastic", frozen, layer_decay)
