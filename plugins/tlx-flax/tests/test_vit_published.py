"""The Vision Transformers against published networks with the same random weights: one that is
written here as timm, DeiT, DINO and DINOv2 have theirs, those of transformers, and the files of
the papers' own Flax code, whose tensors are the same in another layout."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tlx_flax.vit import vit, vit_tiny_patch16
from torch import nn
from torch.nn import functional as F

from tlx import trees
from tlx.testing.compiling import quick_jit
from tlx.types import Tensors, Variables
from tlx.weights.matching import match, state_dict

KEY = jax.random.key(0)
CLASSES = 5
SMALL = {"size": 16, "patch": 4, "width": 24, "heads": 3, "depth": 2}


def randomised(network, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if any(word in name for word in ("norm", "gamma", "lambda1")):
                # Around one, so that a mix-up of scale and bias shows.
                tensor.uniform_(-0.2, 0.2).add_(0 if name.endswith("bias") else 1)
            else:
                spread = 0.2 if tensor.ndim < 2 or "token" in name or "pos" in name else None
                tensor.normal_(0, spread or (2 / sum(tensor.shape[:2])) ** 0.5)
    return network


def named(network):
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


@cache
def with_head(backbone):
    """Abstract variables of the backbone and a linear head of five classes."""
    shapes = jax.eval_shape(backbone.init, KEY, None)
    width = backbone.features[-1].channels
    head = {"kernel": np.zeros((width, CLASSES), "f"), "bias": np.zeros(CLASSES, "f")}
    like = Variables(
        {"backbone": shapes.params, "head": head}, {"backbone": shapes.state, "head": {}}
    )
    return jax.eval_shape(lambda tree: tree, like)


def loaded(backbone, tensors):
    return match(Tensors(tensors, "the file"), with_head(backbone), backbone.dialects)


def whole(backbone, tensors, dialect):
    """The variables, where every tensor is a leaf and every leaf a tensor."""
    variables, report = loaded(backbone, tensors)
    assert (report.dialect, report.initialised, report.skipped) == (dialect, (), ())
    assert {leaf.name for leaf in report.loaded} == {*tensors}
    assert not any(leaf.change for leaf in report.loaded)
    return variables


def pictures(backbone, count=2, seed=0):
    shape = (count, *backbone.inputs.size, backbone.inputs.channels)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def channels_first(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def near(got, wanted, share=1e-4):
    wanted = wanted.detach().numpy()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=share * np.abs(wanted).max(), rtol=0)


@cache
def compiled(backbone):
    return quick_jit(partial(backbone.apply, rng=KEY, mode="eval"))


def run(backbone, variables, x):
    params, state = (part["backbone"] for part in variables)
    return compiled(backbone)(params, state, x)[0]


def dialect(backbone, name):
    (found,) = (dialect for dialect in backbone.dialects if dialect.name == name)
    return found


def same(got, wanted):
    assert trees.flat(got).keys() == trees.flat(wanted).keys()
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def bitwise(got, wanted):
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].shape == tensor.shape, name
        assert got[name].tobytes() == np.ascontiguousarray(tensor).tobytes(), name


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = (
            heads,
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x):
        batch, tokens, _ = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width, heads, scaled):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = (Scale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Timm(nn.Module):
    """timm's names and order of things; `mean` is its global_pool="avg" with fc_norm."""

    def __init__(
        self, size, patch, width, heads, depth, channels=3, scaled=False, registers=0, mean=False
    ):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        if registers:
            self.reg_token = nn.Parameter(torch.zeros(1, registers, width))
        self.registers, self.mean = registers, mean
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.blocks = nn.ModuleList([Block(width, heads, scaled) for _ in range(depth)])
        self.norm = nn.Identity() if mean else nn.LayerNorm(width, eps=1e-6)
        self.fc_norm = nn.LayerNorm(width, eps=1e-6) if mean else nn.Identity()
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        if self.registers:
            extra = self.reg_token.expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], extra, x[:, 1:]], 1)
        found = {"embed": x}
        for number, block in enumerate(self.blocks):
            x = found[f"block{number}"] = block(x)
        found["tokens"] = (self.fc_norm if self.mean else self.norm)(x)
        found["cls"] = found["tokens"][:, 0]
        pooled = self.norm(x)[:, 0]
        if self.mean:
            pooled = self.fc_norm(x[:, 1 + self.registers :].mean(1))
        return {**found, "pooled": pooled, "logits": self.head(pooled)}


CASES = {
    "small": (vit(**SMALL), {}),
    "one channel": (vit(**SMALL, channels=1), {"channels": 1}),
    "mean": (vit(**SMALL, pool="mean"), {"mean": True}),
    "layer scale and registers": (
        vit(**SMALL, layer_scale=1e-5, registers=3),
        {"scaled": True, "registers": 3},
    ),
    "registers, mean": (vit(**SMALL, registers=2, pool="mean"), {"registers": 2, "mean": True}),
}


def reference(case):
    """The backbone, and PyTorch's network with numbers unlike a fresh one's."""
    backbone, options = CASES[case]
    return backbone, randomised(Timm(**{**SMALL, **options}).eval())


@pytest.mark.parametrize("case", CASES)
def test_every_feature_is_that_of_timm(case):
    backbone, network = reference(case)
    variables = whole(backbone, named(network), "timm")
    x = pictures(backbone)
    with torch.no_grad():
        wanted = network(channels_first(x))
    features = run(backbone, variables, x)
    for spec in backbone.features:
        near(features[spec.name], wanted[spec.name])
    head = variables.params["head"]
    near(features["pooled"] @ head["kernel"] + head["bias"], wanted["logits"])


def test_gradients_are_those_of_pytorch():
    backbone, network = reference("layer scale and registers")
    variables = whole(backbone, named(network), "timm")
    x = pictures(backbone)
    weights = np.random.default_rng(1).normal(size=(2, SMALL["width"])).astype(np.float32)

    @quick_jit
    @jax.grad
    def gradient(params):
        features, _ = backbone.apply(params, {}, x, rng=KEY, mode="train")
        return (features["pooled"] * weights).sum()

    (network(channels_first(x))["pooled"] * torch.tensor(weights)).sum().backward()
    got = {"backbone": gradient(variables.params["backbone"]), "head": variables.params["head"]}
    got = state_dict(Variables(got, variables.state), backbone.dialects[0])
    compared = 0
    for name, tensor in network.named_parameters():
        if not name.startswith("head"):
            # A gradient of zero (of the keys' bias) is noise on both sides.
            floor = 1e-5 * torch.ones(1)
            near(got[name], tensor.grad, 1e-3 + 1e-6 / max(tensor.grad.abs().max(), floor).item())
            compared += 1
    assert compared == len(got) - 2


def test_timm_is_written_key_for_key_and_loads_in_pytorch():
    for case in CASES:
        backbone, network = reference(case)
        tensors = named(network)
        back = state_dict(whole(backbone, tensors, "timm"), backbone.dialects[0])
        bitwise(back, tensors)
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in back.items()})


def test_dino_and_its_kin():
    backbone, network = reference("small")
    tensors = named(network)
    wanted = whole(backbone, tensors, "timm")
    # DINO's teacher and its projector, which is not the classifier
    body = {k: v for k, v in tensors.items() if not k.startswith("head")}
    whole_file = {f"module.backbone.{name}": tensor for name, tensor in body.items()}
    whole_file["module.head.mlp.0.weight"] = np.ones((8, 24), "f")
    whole_file["module.backbone.mask_token"] = np.ones((1, 24), "f")
    variables, report = loaded(backbone, whole_file)
    assert [tensor.name for tensor in report.skipped] == ["module.head.mlp.0.weight"]
    same(variables.params["backbone"], wanted.params["backbone"])
    # a network pre-trained with a class token, read to be pooled over patches
    mean = vit(**SMALL, pool="mean")
    same(whole(mean, tensors, "timm"), wanted)


def test_another_picture_size_resamples_positions_and_says_so():
    backbone, network = vit(**{**SMALL, "size": 24}), reference("small")[1]
    variables, report = loaded(backbone, named(network))
    (change,) = [leaf for leaf in report.loaded if leaf.change]
    assert change.path == "params/backbone/embed/position_embedding"
    assert change.change == "resampled from a grid of 4x4 to 6x6"
    grid = network.pos_embed[:, 1:].detach().reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, 36, -1)
    network.pos_embed = nn.Parameter(torch.cat([network.pos_embed[:, :1], grid], 1))
    x = pictures(backbone)
    with torch.no_grad():
        wanted = network(channels_first(x))
    near(run(backbone, variables, x)["pooled"], wanted["pooled"])


def test_a_colour_network_reads_grey_pictures():
    backbone, network = vit(**SMALL, channels=1), reference("small")[1]
    variables, report = loaded(backbone, named(network))
    (change,) = [leaf for leaf in report.loaded if leaf.change]
    assert change.path == "params/backbone/embed/patch/kernel"
    assert "summed" in change.change
    x = pictures(backbone)
    with torch.no_grad():
        wanted = network(channels_first(np.repeat(x, 3, -1)))
    near(run(backbone, variables, x)["pooled"], wanted["pooled"])


SIZES = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "num_attention_heads": 3,
         "num_hidden_layers": 2}  # fmt: skip
CONFIGS = {
    "small": {**SIZES, "intermediate_size": 96},
    "one channel": {**SIZES, "intermediate_size": 96, "num_channels": 1},
    "tiny": {"image_size": 32, "patch_size": 16, "hidden_size": 192, "num_attention_heads": 3,
             "intermediate_size": 768, "num_hidden_layers": 12},
}  # fmt: skip
BACKBONES = {
    "small": vit(**SMALL),
    "one channel": vit(**SMALL, channels=1),
    "tiny": vit_tiny_patch16(size=32),
}


def classifier(case, eps=1e-6):
    config = transformers.ViTConfig(
        **CONFIGS[case], num_labels=CLASSES, layer_norm_eps=eps, attn_implementation="eager"
    )
    return randomised(transformers.ViTForImageClassification(config).eval())


@pytest.mark.parametrize("case", CONFIGS)
def test_every_feature_is_that_of_transformers(case):
    backbone, network = BACKBONES[case], classifier(case)
    variables = whole(backbone, named(network), "transformers-memory")
    x = pictures(backbone)
    with torch.no_grad():
        body = network.vit(channels_first(x), output_hidden_states=True)
        logits = network(channels_first(x)).logits
    features = run(backbone, variables, x)
    depth = CONFIGS[case]["num_hidden_layers"]
    names = ["embed", *(f"block{number}" for number in range(depth))]
    assert len(body.hidden_states) == len(names)
    for name, wanted in zip(names, body.hidden_states, strict=True):
        near(features[name], wanted)
    near(features["tokens"], body.last_hidden_state)
    near(features["cls"], body.last_hidden_state[:, 0])
    near(features["pooled"], body.last_hidden_state[:, 0])
    head = variables.params["head"]
    near(features["pooled"] @ head["kernel"] + head["bias"], logits)


def test_the_epsilon_of_transformers():
    network = classifier("small", eps=1e-2)
    x = pictures(BACKBONES["small"])
    with torch.no_grad():
        wanted = network.vit(channels_first(x)).last_hidden_state
    for eps, same in ((1e-2, True), (1e-6, False)):
        backbone = vit(**SMALL, eps=eps)
        found = run(backbone, whole(backbone, named(network), "transformers-memory"), x)["tokens"]
        assert (np.abs(found - wanted.numpy()).max() < 1e-4 * wanted.abs().max().item()) == same


def saved(network, folder):
    """What the hub would hold."""
    network.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_files_of_transformers_are_read_and_written_key_for_key(tmp_path):
    backbone, network = BACKBONES["small"], classifier("small")
    tensors = saved(network, tmp_path)
    assert "vit.encoder.layer.1.attention.attention.query.weight" in tensors
    variables = whole(backbone, tensors, "transformers")
    same(variables, whole(backbone, named(network), "transformers-memory"))
    back = state_dict(variables, dialect(backbone, "transformers"))
    bitwise(back, tensors)
    save_file(back, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again = transformers.ViTForImageClassification.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    x = channels_first(pictures(backbone))
    with torch.no_grad():
        torch.testing.assert_close(again(x).logits, network(x).logits, rtol=0, atol=0)
    bare = {name.removeprefix("vit."): tensor for name, tensor in tensors.items()}
    same(variables, whole(backbone, bare, "transformers"))


def test_dinov2_of_transformers_with_and_without_registers(tmp_path):
    for registers, kind in ((0, "Dinov2"), (3, "Dinov2WithRegisters")):
        more = {"num_register_tokens": registers} if registers else {}
        config = getattr(transformers, f"{kind}Config")(**SIZES, **more)
        network = randomised(getattr(transformers, f"{kind}Model")(config).eval())
        backbone = vit(**SMALL, layer_scale=1.0, registers=registers)
        tensors = saved(network, tmp_path / kind)
        variables, report = loaded(backbone, tensors)
        assert (report.dialect, report.skipped) == ("transformers-dinov2", ())
        assert {leaf.path for leaf in report.initialised} == {
            "params/head/kernel",
            "params/head/bias",
        }
        x = pictures(backbone)
        with torch.no_grad():
            wanted = network(channels_first(x), output_hidden_states=True)
        features = run(backbone, variables, x)
        near(features["block0"], wanted.hidden_states[1])
        near(features["tokens"], wanted.last_hidden_state)
        assert len(state_dict(variables, dialect(backbone, "transformers-dinov2"))) == (
            len(tensors) - ("embeddings.mask_token" in tensors) + 2
        )


def flax_file(tensors, kind):
    """transformers' tensors as the .npz files of the ViT paper and of big_vision hold them."""
    attention, norm, mlp = (1, 2, 3) if kind == "augreg" else (0, 1, 0)
    width, heads = SMALL["width"], SMALL["heads"]
    body = {name.removeprefix("vit."): tensor for name, tensor in tensors.items()}
    where = "Transformer/posembed_input/pos_embedding" if kind == "augreg" else "pos_embedding"
    patches = body["embeddings.patch_embeddings.projection.weight"]
    file = {
        "cls": body["embeddings.cls_token"],
        where: body["embeddings.position_embeddings"],
        "embedding/kernel": patches.transpose(2, 3, 1, 0),
        "embedding/bias": body["embeddings.patch_embeddings.projection.bias"],
    }

    def add(theirs, ours, kernel="kernel"):
        file[f"{theirs}/{kernel}"] = body[f"{ours}.weight"].T
        file[f"{theirs}/bias"] = body[f"{ours}.bias"]

    add("Transformer/encoder_norm", "layernorm", "scale")
    add("head", "classifier")
    for i in range(SMALL["depth"]):
        theirs, ours = f"Transformer/encoderblock_{i}", f"layers.{i}"
        add(f"{theirs}/LayerNorm_0", f"{ours}.layernorm_before", "scale")
        add(f"{theirs}/LayerNorm_{norm}", f"{ours}.layernorm_after", "scale")
        add(f"{theirs}/MlpBlock_{mlp}/Dense_0", f"{ours}.mlp.fc1")
        add(f"{theirs}/MlpBlock_{mlp}/Dense_1", f"{ours}.mlp.fc2")
        mixer = f"{theirs}/MultiHeadDotProductAttention_{attention}"
        for part in ("query", "key", "value", "out"):
            add(f"{mixer}/{part}", f"{ours}.attention.{part[0]}_proj")
            kernel, bias = file[f"{mixer}/{part}/kernel"], file[f"{mixer}/{part}/bias"]
            into = part != "out"
            shape = (width, heads, -1) if into else (heads, -1, width)
            file[f"{mixer}/{part}/kernel"] = kernel.reshape(shape)
            file[f"{mixer}/{part}/bias"] = bias.reshape(heads, -1) if into else bias
    return file


@pytest.mark.parametrize("kind", ["augreg", "big_vision"])
def test_the_files_of_the_papers_own_code(kind):
    backbone, tensors = BACKBONES["small"], named(classifier("small"))
    file = flax_file(tensors, kind)
    variables = whole(backbone, file, kind)
    same(variables, whole(backbone, tensors, "transformers-memory"))
    bitwise(state_dict(variables, dialect(backbone, kind)), file)
    under = {f"params/{name}": tensor for name, tensor in file.items()}
    same(whole(backbone, under, kind), variables)


def test_big_vision_has_no_position_for_the_class_token():
    backbone = BACKBONES["small"]
    file = flax_file(named(classifier("small")), "big_vision")
    wanted = whole(backbone, file, "big_vision")
    file["cls"] = file["cls"] + file["pos_embedding"][:, :1]
    file["pos_embedding"] = file["pos_embedding"][:, 1:]
    variables, report = loaded(backbone, file)
    assert (report.initialised, report.skipped) == ((), ())
    assert [leaf.change for leaf in report.loaded if leaf.change] == ["zero for the class token"]
    x = pictures(backbone)
    wanted, found = (run(backbone, each, x)["pooled"] for each in (wanted, variables))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
