"""Data sources and augmentations for tlx."""

__version__ = "0.1.0"
