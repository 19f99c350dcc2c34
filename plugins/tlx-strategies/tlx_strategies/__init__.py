"""Strategies for tlx: ways to adapt a model with labels, and masked pre-training without."""

__version__ = "0.1.0"
