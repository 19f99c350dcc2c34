"""Weight files for tlx: safetensors, npz, a tlx run folder."""

__version__ = "0.1.0"
