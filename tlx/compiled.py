"""How a program that holds a network is compiled: `jax.jit` with its backend's compiler options.

On the CPU, XLA's own choice of library calls makes convolutions 1.1 to 4.7 times slower, and their
weight gradients 1.5 to 4.7 times (jax 0.10.2, `benchmarks/convolutions.py`). On accelerators
nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

COMPILER_OPTIONS = {
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
}


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)`."""
    return jax.jit(
        function, compiler_options=COMPILER_OPTIONS.get(jax.default_backend()), **options
    )
