"""Any Haiku module as a Backbone of tlx."""

__version__ = "0.1.0"
