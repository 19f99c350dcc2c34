"""What a function reads: the leaves of its arguments on which anything that it returns depends.

Found by tracing, so it holds for anybody's network and loss. What nobody reads need not be kept,
and does not decide whether a result can be used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr
from jax.interpreters import partial_eval

from tlx.types import PyTree


def reads(function: Callable[..., Any], *arguments: Any) -> PyTree:
    """The structure of `arguments` (arrays, or their shapes) with a bool per leaf."""
    return read_by(jax.make_jaxpr(function)(*arguments), arguments)


def read_by(closed: ClosedJaxpr, arguments: PyTree) -> PyTree:
    """The same of a program that was traced already, with these arguments."""
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return jax.tree.unflatten(jax.tree.structure(arguments), used)
