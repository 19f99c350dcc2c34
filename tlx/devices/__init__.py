"""Arithmetic, compilation, devices and processes."""
