"""Functions and modules of any framework as a Backbone."""
