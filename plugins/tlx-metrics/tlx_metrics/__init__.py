"""Metrics of a whole split: macro-F1, AUROC, average precision, calibration error, Spearman."""

__version__ = "0.1.0"
