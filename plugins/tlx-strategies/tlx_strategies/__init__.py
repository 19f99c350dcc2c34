"""Strategies for tlx: feature transfer, fine-tuning, probe then fine-tune, masked pre-training."""

__version__ = "0.1.0"
