"""Divergences for tlx, one file each."""

__version__ = "0.1.0"
