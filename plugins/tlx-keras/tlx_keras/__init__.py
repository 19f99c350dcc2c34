"""Keras 3 on JAX for tlx: any Keras model and the networks of keras.applications as backbones."""

__version__ = "0.1.0"
