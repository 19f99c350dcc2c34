"""The HTML report of a tlx run, and TensorBoard files."""

__version__ = "0.1.0"
