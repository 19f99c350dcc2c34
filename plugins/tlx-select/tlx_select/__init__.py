"""Transferability scores: which source for this target, without training any of them."""

__version__ = "0.1.0"
