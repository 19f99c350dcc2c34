"""A run's folder: whose it is, what it was started with, and what it leaves."""
