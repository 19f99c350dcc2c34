"""Keras with JAX underneath.

Keras chooses its backend when it is imported, once for a process, so it has to be told before.
Everything here gets `keras` from this module; a file of one's own may do the same, or set
`KERAS_BACKEND=jax` itself.
"""

from __future__ import annotations

import os
import sys

from tlx.errors import PluginError

BACKEND = "KERAS_BACKEND"

if "keras" not in sys.modules:
    chosen = os.environ.setdefault(BACKEND, "jax")
    if chosen != "jax":
        raise PluginError(
            f"The environment variable {BACKEND} is {chosen!r}, and tlx runs Keras on JAX alone. "
            f"Set it to 'jax', or remove it."
        )

import keras as keras  # noqa: E402  only now does it find its backend

if keras.config.backend() != "jax":
    raise PluginError(
        f"Keras was imported with the backend {keras.config.backend()!r} before tlx could ask for "
        f"JAX, and cannot change it in a running process. Set the environment variable "
        f"{BACKEND}=jax, or import it with `from tlx_keras.on_jax import keras`."
    )
