"""A bag of embeddings is PyTorch's EmbeddingBag, and padding changes no bit of it."""

import jax
import numpy as np
import pytest
from tlx_flax.bag_of_embeddings import bag_of_embeddings
from tlx_text import BagInput

from tlx import registry
from tlx.contracts.input import FitsBackbone
from tlx.errors import ConfigError, ContractError
from tlx.trees import flat

WORDS = BagInput(words=tuple("abcdefg"), length=6)


def made(**options):
    body = bag_of_embeddings(width=4, **options).for_inputs(WORDS)
    return body, body.init(jax.random.key(0), None)


def texts(*lengths, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, WORDS.rows, (len(lengths), 6)).astype(np.int32)
    mask = np.arange(6) < np.array(lengths)[:, None]
    return {"ids": np.where(mask, ids, 0).astype(np.int32), "mask": mask}


def run(body, variables, x, mode="eval", seed=0):
    return body.apply(*variables, x, rng=jax.random.key(seed), mode=mode)[0]


def test_there_is_a_row_for_every_word():
    body, variables = made()
    assert isinstance(body, FitsBackbone)
    assert flat(variables.params)["embed/table/embedding"].shape == (10, 4)
    assert body.leaf("embed/table/embedding").kind == "embedding"
    assert body == made()[0] != bag_of_embeddings(width=4)
    longer = BagInput(words=tuple("abcdefgh"), length=6)
    assert body.for_inputs(longer) == bag_of_embeddings(width=4).for_inputs(longer)


def test_the_mean_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    body, variables = made()
    x = texts(1, 4, 6)
    found = run(body, variables, x)
    table = np.array(flat(variables.params)["embed/table/embedding"])
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode="mean", padding_idx=0)
    np.testing.assert_allclose(found["pooled"], bag(torch.tensor(x["ids"])), atol=1e-7)
    wanted = np.where(x["mask"][..., None], table[x["ids"]], 0)
    np.testing.assert_array_equal(found["tokens"], wanted)


def test_padding_changes_no_bit():
    body, variables = made(hidden=5)
    x = texts(1, 4, 6, 0)
    other = {**x, "ids": np.where(x["mask"], x["ids"], 7).astype(np.int32)}
    one, two = run(body, variables, x), run(body, variables, other)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert np.isfinite(one["pooled"]).all()  # of a text without words, too


def test_the_order_of_words_does_not_matter():
    body, variables = made()
    x = texts(6)
    turned = {**x, "ids": x["ids"][:, ::-1]}
    one, two = (run(body, variables, each)["pooled"] for each in (x, turned))
    np.testing.assert_allclose(one, two, atol=1e-7)


def test_a_layer_and_dropout():
    body, variables = made(hidden=5, dropout=0.5)
    assert body.stages == ("embed", "hidden")
    x = texts(3, 3)
    found = run(body, variables, x)
    leaves = flat(variables.params)
    mean = found["tokens"].sum(1) / 3
    wanted = mean @ leaves["hidden/dense/kernel"] + leaves["hidden/dense/bias"]
    np.testing.assert_allclose(found["pooled"], np.maximum(wanted, 0), atol=1e-6)
    dropped = [run(body, variables, x, "train", seed)["pooled"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert (dropped[0] != dropped[2]).any()


@pytest.mark.parametrize("options", [{"width": 0}, {"hidden": -1}, {"dropout": 1.0}])
def test_options_that_cannot_be(options):
    with pytest.raises(ConfigError, match="A bag of embeddings has a width from 1"):
        bag_of_embeddings(**options)


def test_other_inputs_are_refused():
    with pytest.raises(ConfigError, match="takes texts as numbers of words"):
        bag_of_embeddings().for_inputs(registry.build("inputs", "image"))
    with pytest.raises((ConfigError, ContractError), match="min_count is 0"):
        registry.build("backbones", "bag_of_embeddings", {"min_count": 0})
