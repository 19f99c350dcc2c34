"""Jit-compiled training steps for tlx."""

__version__ = "0.1.0"
