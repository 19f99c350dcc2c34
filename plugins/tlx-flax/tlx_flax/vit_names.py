"""How files of other libraries speak of a Vision Transformer.

`timm` is also what DeiT, DINO, DINOv2 and MAE call their tensors. transformers has names on the
hub, others in memory since its version 5, and again others for DINOv2. `augreg` are the .npz
files of the ViT paper and of 'How to train your ViT?', `big_vision` those of its successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tlx.contracts.dialect import Conventions, Dialect, Row
from tlx_flax.rows import conv, dense, layer_norm

EMBED = "backbone/embed"
ARCHITECTURES = ("vit", "vit_*", "deit*", "dinov2*", "flexivit_*")
"""What timm and transformers call networks of this family."""
FUSED = ("attention/query", "attention/key", "attention/value")
"""In this order one behind the other in timm's `attn.qkv`."""
_BLOCK = (
    # ours             timm          transformers: on the hub      in memory
    ("norm1",           "norm1",     "layernorm_before",          "layernorm_before"),
    ("attention/query", "attn.qkv",  "attention.attention.query", "attention.q_proj"),
    ("attention/key",   "attn.qkv",  "attention.attention.key",   "attention.k_proj"),
    ("attention/value", "attn.qkv",  "attention.attention.value", "attention.v_proj"),
    ("attention/out",   "attn.proj", "attention.output.dense",    "attention.o_proj"),
    ("norm2",           "norm2",     "layernorm_after",           "layernorm_after"),
    ("mlp/fc1",         "mlp.fc1",   "intermediate.dense",        "mlp.fc1"),
    ("mlp/fc2",         "mlp.fc2",   "output.dense",              "mlp.fc2"),
)  # fmt: skip
_ALIKE, HUB, MEMORY = ({row[0]: row[column] for row in _BLOCK} for column in (1, 2, 3))
TIMM = {**_ALIKE, "layer_scale1": "ls1.gamma", "layer_scale2": "ls2.gamma"}
DINOV2 = {
    **HUB,
    **{name: TIMM[name] for name in ("norm1", "norm2", "mlp/fc1", "mlp/fc2")},
    **{f"layer_scale{n}": f"layer_scale{n}.lambda1" for n in (1, 2)},
}
"""transformers' DINOv2, on the hub."""


def dialects(width: int, heads: int, pool: str, eps: float) -> tuple[Dialect, ...]:
    """Every kind of file that a network of this width is known from. All were made with a layer
    norm epsilon of 1e-6, but transformers' own ViTs with 1e-12."""
    known = (
        _torch("timm", _timm(pool)),
        _torch("transformers", _transformers("encoder.layer.{i}", HUB), "vit."),
        _torch("transformers-memory", _transformers("layers.{i}", MEMORY), "vit."),
        _torch("transformers-dinov2", _transformers("encoder.layer.{i}", DINOV2), "dinov2."),
        _flax("augreg", "Transformer/posembed_input/pos_embedding", (1, 2, 3), width, heads),
        _flax("big_vision", "pos_embedding", (0, 1, 0), width, heads),
    )
    own = ("transformers", "transformers-memory")
    return tuple(
        replace(
            one,
            theirs=one.theirs._replace(norm_eps=1e-12 if one.name in own else 1e-6),
            ours=one.ours._replace(norm_eps=eps),
        )
        for one in known
    )


def _torch(name: str, rows: tuple[Row, ...], root: str = "") -> Dialect:
    """A mask token is for pre-training alone."""
    ignored = ("mask_token", "*.mask_token")
    return Dialect(name, rows, root=root, ignored=ignored, architectures=ARCHITECTURES)


def _timm(pool: str) -> tuple[Row, ...]:
    """The norm behind a pooling of patches is `fc_norm`, before one `norm`."""
    norms = ("norm", "fc_norm") if pool == "token" else ("fc_norm", "norm")
    return (
        Row("cls_token", f"params/{EMBED}/class_embedding"),
        Row("pos_embed", f"params/{EMBED}/position_embedding", "positions"),
        Row("reg_token", f"params/{EMBED}/register_embedding"),
        Row("register_tokens", f"params/{EMBED}/register_embedding"),
        *conv("patch_embed.proj", f"{EMBED}/patch", layout="stem"),
        *_blocks("blocks.{i}", TIMM),
        *(row for name in norms for row in layer_norm(name, "backbone/norm")),
        *dense("head", "head"),
    )


def _transformers(layer: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    return (
        Row("embeddings.cls_token", f"params/{EMBED}/class_embedding"),
        Row("embeddings.position_embeddings", f"params/{EMBED}/position_embedding", "positions"),
        Row("embeddings.register_tokens", f"params/{EMBED}/register_embedding"),
        *conv("embeddings.patch_embeddings.projection", f"{EMBED}/patch", layout="stem"),
        *_blocks(layer, names),
        *layer_norm("layernorm", "backbone/norm"),
        *dense("classifier", "head"),
    )


def _blocks(layer: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for here, there in names.items():
        theirs, ours = f"{layer}.{there}", f"backbone/block{{i}}/{here}"
        if here.startswith("norm"):
            rows += layer_norm(theirs, ours)
        elif here.startswith("layer_scale"):
            rows.append(Row(theirs, f"params/{ours}/scale"))
        elif there == "attn.qkv":
            part = (FUSED.index(here), len(FUSED))
            rows += [row._replace(part=part) for row in dense(theirs, ours)]
        else:
            rows += dense(theirs, ours)
    return tuple(rows)


def _flax(
    name: str, positions: str, numbers: tuple[int, int, int], width: int, heads: int
) -> Dialect:
    """Flax numbers layers of one kind, or all of them: `numbers` of attention, second norm and
    MLP. A kernel of attention has an axis for the heads."""
    attention, norm, mlp = numbers
    layer = "Transformer/encoderblock_{i}"
    mixer, mixes = f"{layer}/MultiHeadDotProductAttention_{attention}", "params/backbone/block{i}"
    split, each = (width, heads, width // heads), (heads, width // heads)
    rows = [
        Row("cls", f"params/{EMBED}/class_embedding"),
        Row(positions, f"params/{EMBED}/position_embedding", "positions"),
        Row("embedding/kernel", f"params/{EMBED}/patch/kernel", "stem"),
        Row("embedding/bias", f"params/{EMBED}/patch/bias"),
        *_alike(f"{layer}/LayerNorm_0", f"{mixes}/norm1", "scale"),
        *_alike(f"{layer}/LayerNorm_{norm}", f"{mixes}/norm2", "scale"),
        *_alike(f"{layer}/MlpBlock_{mlp}/Dense_0", f"{mixes}/mlp/fc1", "kernel"),
        *_alike(f"{layer}/MlpBlock_{mlp}/Dense_1", f"{mixes}/mlp/fc2", "kernel"),
        *_alike("Transformer/encoder_norm", "params/backbone/norm", "scale"),
        *_alike("head", "params/head", "kernel"),
        Row(f"{mixer}/out/kernel", f"{mixes}/attention/out/kernel", "flat", shape=(*each, width)),
        Row(f"{mixer}/out/bias", f"{mixes}/attention/out/bias"),
    ]
    for part in ("query", "key", "value"):
        ours = f"{mixes}/attention/{part}"
        rows += [
            Row(f"{mixer}/{part}/kernel", f"{ours}/kernel", "flat", shape=split),
            Row(f"{mixer}/{part}/bias", f"{ours}/bias", "flat", shape=each),
        ]
    return Dialect(name, tuple(rows), theirs=Conventions("HWIO"))


def _alike(theirs: str, ours: str, first: str) -> tuple[Row, Row]:
    """A layer whose two tensors are called and laid out as here."""
    return Row(f"{theirs}/{first}", f"{ours}/{first}"), Row(f"{theirs}/bias", f"{ours}/bias")
