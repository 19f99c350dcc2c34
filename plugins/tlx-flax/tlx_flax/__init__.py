"""ResNets in Flax nnx for tlx, and wrappers that turn any nnx or linen module into a Backbone."""

__version__ = "0.1.0"
