"""How the weight of a divergence moves over a run.

A factor between 0 and 1 on lambda as a function of progress: hold on to the source from the start
and let go, or let a domain's pull grow once the features mean something.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from tlx.run_file.run_config import WeightSchedule

WARMUP = 0.1
"""The share of the run in which 'warmup' rises."""
STEEPNESS = 10.0
"""Of the ramp of arXiv:1505.07818, section 5.2.2, where it is called gamma."""


def share(schedule: WeightSchedule, progress: Array) -> Array:
    """The factor at `progress` (0 to 1 over the whole run).

    constant: 1; warmup: rises linearly over the first tenth; linear and cosine: fall from 1 to 0;
    dann: 2 / (1 + exp(-10 progress)) - 1 (Ganin et al. 2016)."""
    match schedule:
        case "constant":
            return jnp.ones_like(progress)
        case "warmup":
            return jnp.minimum(progress / WARMUP, 1.0)
        case "linear":
            return 1 - progress
        case "cosine":
            return (1 + jnp.cos(jnp.pi * progress)) / 2
        case "dann":
            return 2 / (1 + jnp.exp(-STEEPNESS * progress)) - 1
