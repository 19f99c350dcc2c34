"""tlx: transfer learning in JAX out of plugins.

    min_f  L_T(f) + lambda * D(f, f_S)

Names are imported on first use, so that `import tlx` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tlx.model import Model as Model
    from tlx.objective import Objective as Objective
    from tlx.objective import Term as Term
    from tlx.selection.ranking import rank as rank
    from tlx.selection.ranking import similarity as similarity
    from tlx.studies.auditing import audit as audit
    from tlx.study import run as run
    from tlx.weights.saved import load as load

_HOME = {
    "Model": "tlx.model",
    "Objective": "tlx.objective",
    "Term": "tlx.objective",
    "audit": "tlx.studies.auditing",
    "load": "tlx.weights.saved",
    "rank": "tlx.selection.ranking",
    "run": "tlx.study",
    "similarity": "tlx.selection.ranking",
}
__all__ = ["Model", "Objective", "Term", "audit", "load", "rank", "run", "similarity"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tlx' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What a notebook completes: the names above, imported or not."""
    return sorted({*globals(), *__all__})
