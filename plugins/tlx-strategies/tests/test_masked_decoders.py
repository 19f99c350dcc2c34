"""The decoders of masked prediction: shapes, the way up by hand, and MAE's against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_strategies import channel_norm, decoder, token_decoder
from torch.nn import functional as F
from transformers import ViTMAEConfig
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoder

from tlx.testing.compiling import quick_jit

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.normal(size=shape).astype("f")


@pytest.mark.parametrize(
    ("sizes", "picture"),
    [
        ([(4, 6)], (2, 16, 24, 3)),
        ([(3, 4)], (2, 14, 15, 1)),
        ([(16, 24), (8, 12), (4, 6)], (2, 16, 24, 3)),
        ([(8, 8), (2, 2)], (2, 32, 32, 1)),
    ],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_the_decoder_draws_pictures_of_any_shape(sizes, picture, depth):
    maps = [jnp.asarray(drawn(2, *size, 5)) for size in sizes]
    params = decoder.init(KEY, maps, picture, width=8, depth=depth, masked=False)
    shape = jax.eval_shape(lambda p, maps: decoder.apply(p, maps, picture), params, maps).shape
    assert shape == picture


def test_pixel_shuffle_puts_a_positions_block_in_its_place():
    blocks = jnp.tile(jnp.arange(4.0), (1, 2, 2, 1))
    found = decoder.shuffled(blocks, (2, 2), (1, 4, 4, 1))
    np.testing.assert_array_equal(found[0, ..., 0], np.tile([[0, 1], [2, 3]], (2, 2)))


def test_the_norm_is_pytorchs_layer_norm():
    x, scale, bias = drawn(3, 4, 5, 8) + 100, drawn(8), drawn(8)
    ours = channel_norm.apply({"scale": scale, "bias": bias}, jnp.asarray(x))
    theirs = F.layer_norm(torch.tensor(x), (8,), torch.tensor(scale), torch.tensor(bias), 1e-6)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_way_up_is_that_of_pytorch():
    """Three scales, hidden positions filled with the token of their scale."""
    sizes, channels = [(8, 12), (4, 6), (2, 3)], [5, 6, 7]
    maps = [drawn(2, *size, c) for size, c in zip(sizes, channels, strict=True)]
    hidden = np.array([[[1, 0, 1], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]], bool)
    picture = (2, 16, 24, 3)
    params = decoder.init(KEY, maps, picture, width=64, depth=2, masked=True)
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape) / 4, params)
    ours = quick_jit(lambda p, maps: decoder.apply(p, maps, picture, hidden=jnp.asarray(hidden)))(
        params, maps
    )
    own = jax.tree.map(torch.tensor, params)
    x = None
    for number, feature in enumerate(reversed(maps)):
        level, feature = own[f"scale{number}"], torch.tensor(feature)
        wide = feature.shape[1] // 2
        there = torch.tensor(hidden.repeat(wide, 1).repeat(wide, 2))
        feature[there] = level["token"]
        y = F.linear(feature, level["project"]["kernel"].T, level["project"]["bias"])
        y = y.permute(0, 3, 1, 2)
        if x is not None:
            y = y + F.interpolate(x, scale_factor=2, mode="nearest")
        for layer in range(2):
            one = level[f"conv{layer}"]
            y = F.conv2d(y, one["kernel"].permute(3, 2, 0, 1), padding=1).permute(0, 2, 3, 1)
            y = F.layer_norm(y, y.shape[-1:], one["norm"]["scale"], one["norm"]["bias"], 1e-6)
            y = F.gelu(y, approximate="tanh").permute(0, 3, 1, 2)
        x = y
    assert x.shape[1] == 16  # 64, 32, 16
    x = F.conv2d(x, own["out"]["kernel"].T[:, :, None, None], own["out"]["bias"])
    # PyTorch's pixel shuffle has the colour first, ours last.
    x = x.reshape(2, 2, 2, 3, 8, 12).permute(0, 3, 1, 2, 4, 5).reshape(2, 12, 8, 12)
    theirs = F.pixel_shuffle(x, 2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


WIDTH, SIDE, PIXELS, INTO = 64, 4, 12, 24


def of_transformers(params):
    """The decoder of ViTMAE with our numbers; its positions are its own."""
    config = ViTMAEConfig(
        hidden_size=INTO, decoder_hidden_size=WIDTH, decoder_num_hidden_layers=2,
        decoder_num_attention_heads=token_decoder.heads(WIDTH),
        decoder_intermediate_size=4 * WIDTH, image_size=2 * SIDE, patch_size=2,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = ViTMAEDecoder(config, num_patches=SIDE * SIDE).eval()
    named = {"decoder_embed": "embed", "decoder_pred": "out", "decoder_norm": "norm"}
    tensors = {name: params[own] for name, own in named.items()}
    for number in range(2):
        block, name = params[f"block{number}"], f"decoder_layers.{number}"
        parts = {key: np.split(v, 3, axis=-1) for key, v in block["query_key_value"].items()}
        for which, letter in enumerate("qkv"):
            own = {key: values[which] for key, values in parts.items()}
            tensors[f"{name}.attention.{letter}_proj"] = own
        tensors[f"{name}.attention.o_proj"] = block["attention"]
        tensors[f"{name}.layernorm_before"] = block["norm1"]
        tensors[f"{name}.layernorm_after"] = block["norm2"]
        tensors |= {f"{name}.mlp.{layer}": block[layer] for layer in ("fc1", "fc2")}
    state = {"mask_token": params["token"][None, None]}
    for name, own in tensors.items():
        state[f"{name}.weight"] = own["kernel"].T if "kernel" in own else own["scale"]
        state[f"{name}.bias"] = own["bias"]
    state = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()}
    result = theirs.load_state_dict(state, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["decoder_pos_embed"], [])
    return theirs


def test_the_decoder_of_tokens_is_that_of_transformers():
    """Also its positions, and the class token in front that has none."""
    count = 6
    params = token_decoder.init(KEY, INTO, PIXELS, width=WIDTH, depth=2)
    params = jax.tree.map(lambda leaf: drawn(*leaf.shape) / 4, params)
    theirs = of_transformers(params)
    positions = theirs.decoder_pos_embed[0].numpy()
    assert not positions[0].any()
    np.testing.assert_allclose(
        token_decoder.sine_cosine(SIDE, SIDE, WIDTH), positions[1:], atol=1e-6
    )
    tokens = drawn(3, 1 + count, INTO)
    # Of the patches in the order of these numbers the first six are visible.
    order = RNG.random((3, SIDE * SIDE)).argsort(axis=1)
    order[:, :count] = np.sort(order[:, :count], axis=1)
    restore = order.argsort(axis=1)
    hidden = (restore >= count).reshape(3, SIDE, SIDE)
    ours = quick_jit(token_decoder.apply, static_argnames="count")(
        params, tokens, hidden, count=count
    )
    with torch.no_grad():
        wanted = theirs(torch.tensor(tokens), torch.tensor(restore)).logits
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3)


def test_positions_tell_columns_and_rows():
    tall = token_decoder.sine_cosine(4, 2, 8).reshape(4, 2, 8)
    np.testing.assert_array_equal(tall[0, 1, :4], tall[3, 1, :4])
    np.testing.assert_array_equal(tall[2, 0, 4:], tall[2, 1, 4:])
    assert [token_decoder.heads(width) for width in (4, 64, 100, 128, 512)] == [1, 2, 2, 4, 16]
