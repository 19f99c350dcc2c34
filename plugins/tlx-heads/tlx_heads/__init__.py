"""Heads for tlx: softmax classifier, multi-label, regression."""

__version__ = "0.1.0"
