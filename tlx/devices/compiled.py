"""How programs are compiled: `jax.jit` with what was measured to help on a backend.

On the CPU, XLA's own choice of library calls makes convolutions 1.1 to 4.7 times slower, and their
weight gradients 1.5 to 4.7 times (jax 0.10.2, `benchmarks/convolutions.py`; with 0.12.0 a step of a
ResNet-18 still takes 1.6 times as long without). What runs once should rather be compiled soon:
drawing a ResNet's parameters takes XLA 3.6 s to compile and 0.1 s to run, without its fusion
emitters 1.3 s and 0.1 s. On accelerators nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax

COMPILER_OPTIONS = {
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
}
FOR_ONCE = {"cpu": {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}}


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)` for what holds a network and runs often."""
    return jax.jit(function, compiler_options=_known(COMPILER_OPTIONS), **options)


def compiled_for_once(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit(function, **options)` for what runs once and is no network."""
    return jax.jit(function, compiler_options=_known(FOR_ONCE), **options)


def _known(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Those for this backend that its compiler has: they come and go between versions of it."""
    wanted = options.get(jax.default_backend(), {})
    return {name: value for name, value in wanted.items() if _has(name, value)}


@cache
def _has(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" in str(error):
            return False
        raise
    return True
