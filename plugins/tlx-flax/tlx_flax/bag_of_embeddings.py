"""A bag of embeddings: the mean of the vectors of a text's words, whatever their order.

Joulin et al. 2016, 'Bag of Tricks for Efficient Text Classification', arXiv:1607.01759 (fastText).
The table has a row for every word of the vocabulary that the input has learnt, and rows for
padding, unknown words and separators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from tlx_text import BagInput

from tlx.contracts.input import Inputs
from tlx.errors import ConfigError
from tlx.protocols import Backbone
from tlx.types import FeatureSpec
from tlx_flax.nnx_backbone import NnxBackbone

SPREAD = 0.1
"""Standard deviation of the vectors before training."""


class Embed(nnx.Module):
    """A vector for each word of a text, and their mean."""

    def __init__(self, rows: int, width: int, dropout: float, rngs: nnx.Rngs):
        spread = nnx.initializers.normal(SPREAD)
        self.table = nnx.Embed(rows, width, embedding_init=spread, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: Mapping[str, Array]) -> tuple[Array, Array]:
        """(`tokens` (B,T,width), 0 where there is no word; their mean (B,width), 0 for a text
        without words), of `ids` and `mask` (B,T)."""
        there = x["mask"][..., None]
        tokens = jnp.where(there, self.table(x["ids"]), 0)
        count = jnp.maximum(there.sum(1), 1)
        return tokens, self.dropout(tokens.sum(1) / count.astype(tokens.dtype))


class Hidden(nnx.Module):
    """A layer on the mean."""

    def __init__(self, width: int, hidden: int, rngs: nnx.Rngs):
        self.dense = nnx.Linear(width, hidden, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """(B,width) to (B,hidden)."""
        return nnx.relu(self.dense(x))


class BagOfEmbeddings(nnx.Module):
    """The body without its classifier, in stages."""

    def __init__(self, rows: int, width: int, hidden: int, dropout: float, rngs: nnx.Rngs):
        self.embed = Embed(rows, width, dropout, rngs)
        self.last = "hidden" if hidden else "embed"
        if hidden:
            self.hidden = Hidden(width, hidden, rngs)

    def stage(self, name: str, x: Any) -> tuple[Array, dict[str, Array]]:
        """One stage by name: what the next one reads, and the features that arise."""
        features = {}
        if name == "embed":
            features["tokens"], x = self.embed(x)
        else:
            x = self.hidden(x)
        if name == self.last:
            features["pooled"] = x
        return x, features


def rows_of(inputs: Inputs) -> Mapping[str, Any]:
    """The rows that a vocabulary needs. Raises ConfigError for texts without one."""
    if not isinstance(inputs, BagInput):
        raise ConfigError("A bag of embeddings takes texts as numbers of words: the input 'bag'.")
    return {"rows": inputs.rows}


def bag_of_embeddings(
    width: int = 64,
    hidden: int = 0,
    dropout: float = 0.0,
    min_count: int = 1,
    max_words: int = 30_000,
    max_length: int = 256,
) -> Backbone:
    """The mean of embeddings, `pooled`, or a layer of it.

    Args:
        width: numbers of a word's vector.
        hidden: width of the layer; 0 for none.
        dropout: of the mean.
        min_count: how often a word has to be in the training texts to have a vector of its own.
        max_words: how many have one at the most, the most frequent first.
        max_length: words of a text at the most; fewer where training texts are shorter.

    Weights of a run bring their own vocabulary, of which the last three say nothing. Raises
    ConfigError for a width below 1 or a rate outside of 0..1."""
    if width < 1 or hidden < 0 or not 0 <= dropout < 1:
        raise ConfigError(
            f"A bag of embeddings has a width from 1, a hidden layer from 0 and a dropout from 0 "
            f"to below 1, not {width}, {hidden} and {dropout}."
        )
    inputs = BagInput(min_count=min_count, max_words=max_words, max_length=max_length)
    features = (
        FeatureSpec("tokens", "tokens", width),
        FeatureSpec("pooled", "vector", hidden or width),
    )
    stages = ("embed", "hidden") if hidden else ("embed",)
    options = {"rows": inputs.rows, "width": width, "hidden": hidden, "dropout": dropout}
    pairs = tuple(sorted(options.items()))
    return NnxBackbone(BagOfEmbeddings, features, inputs, pairs, stages, fitting=rows_of)
