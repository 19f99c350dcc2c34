"""Computations on plain arrays that know nothing of networks or runs."""
