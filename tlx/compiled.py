"""How programs are compiled: `jax.jit` with what was measured to help on a backend.

On the CPU, XLA's own choice of library calls makes convolutions 1.1 to 4.7 times slower, and their
weight gradients 1.5 to 4.7 times (jax 0.10.2, `benchmarks/convolutions.py`). What runs once should
rather be compiled soon: drawing a ResNet's parameters takes XLA 3.6 s to compile and 0.1 s to run,
without its fusion emitters 1.3 s and 0.1 s. On accelerators nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

COMPILER_OPTIONS = {
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
}
FOR_ONCE = {"cpu": {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}}


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)` for what holds a network and runs often."""
    return jax.jit(
        function, compiler_options=COMPILER_OPTIONS.get(jax.default_backend()), **options
    )


def compiled_for_once(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)` for what runs once and is no network."""
    return jax.jit(function, compiler_options=FOR_ONCE.get(jax.default_backend()), **options)
