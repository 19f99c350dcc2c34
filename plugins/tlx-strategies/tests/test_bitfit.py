"""BitFit: which leaves are biases, counted by transformers, and what is refused."""

import jax
import pytest
import transformers
from tlx_strategies.bitfit import BitFit

from tlx import trees
from tlx.errors import ConfigError
from tlx.model import Model
from tlx.planning.plan import plan
from tlx.protocols import Strategy
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.types import LeafInfo, Variables, unlabelled

KEY = jax.random.key(0)
HEAD = {"head/kernel", "head/bias"}


def model(name, head=ToyHead()):
    backbone = build("backbones", name) if isinstance(name, str) else name
    return Model(backbone, head, backbone.inputs)


def planned(name):
    here = model(name)
    batch = unlabelled({"image": jax.ShapeDtypeStruct((2, 32, 32, 3), "uint8")})
    params = jax.eval_shape(here.init, KEY, batch).params
    (only,) = plan(BitFit(backbone_lr=2.0), here, params, 10)
    leaves = trees.flat(params)
    moving = {path for path, moves in trees.flat(only.trainable).items() if moves}
    return only, leaves, moving


def test_a_resnet_moves_the_offsets_of_its_norms():
    only, leaves, moving = planned("resnet20")
    assert moving - HEAD == {path for path in leaves if path.endswith(("bn1/bias", "bn2/bias"))}
    # A stem and three stages of six convolutions, each with its channels (He et al. 2015).
    assert sum(leaves[path].size for path in moving - HEAD) == 16 + 6 * (16 + 32 + 64)
    assert (only.model.frozen, only.phase.norm) == (0, "frozen")
    assert only.multipliers["backbone"]["stem"]["bn1"] == {"bias": 2.0, "scale": None}
    assert only.multipliers["head"]["kernel"] == 1.0


def test_a_vision_transformer_moves_as_many_numbers_as_transformers_has_biases():
    _, leaves, moving = planned("vit")
    config = transformers.ViTConfig(
        hidden_size=96, num_hidden_layers=4, num_attention_heads=3, intermediate_size=384,
        image_size=32, patch_size=4,
    )  # fmt: skip
    theirs = dict(transformers.ViTModel(config, add_pooling_layer=False).named_parameters())
    assert sum(leaf.size for path, leaf in leaves.items() if path not in HEAD) == sum(
        tensor.numel() for tensor in theirs.values()
    )
    biases = [tensor.numel() for name, tensor in theirs.items() if name.endswith("bias")]
    assert sum(leaves[path].size for path in moving - HEAD) == sum(biases)


@pytest.mark.parametrize("name", ["bias", "beta", "offset", "b"])
def test_every_frameworks_word_for_an_offset(name):
    class Named:
        def leaf(self, path):
            return LeafInfo("all", "norm")

    (phase,) = BitFit().phases(model(ToyBackbone()), 10)
    group = type(phase.group)(Named())
    assert group(f"backbone/norm/{name}") == "biases"
    assert group("backbone/norm/scale") == group("backbone/norm/gamma") == "frozen"
    assert (group("head/w"), group("divergence/x/w")) == ("head", "divergence")


def test_phases_add_up():
    assert isinstance(BitFit(), Strategy)
    assert BitFit().init(KEY, model(ToyBackbone()), {}) == Variables({}, {})
    assert [phase.steps for phase in BitFit().phases(model(ToyBackbone()), 7)] == [7]


def test_refusals():
    with pytest.raises(ConfigError, match=r"'bitfit' .* no head"):
        BitFit().phases(model(ToyBackbone(), None), 10)
    with pytest.raises(ConfigError, match="norm = 'frozen_affine' keeps them"):
        BitFit(norm="frozen_affine")
    with pytest.raises(ConfigError, match="backbone_lr"):
        BitFit(backbone_lr=0.0)


def test_a_backbone_without_biases_is_refused():
    class Bare:
        inputs = ToyBackbone().inputs

        def init(self, rng, x):
            return Variables({"kernel": x}, {})

        def leaf(self, path):
            return LeafInfo("all", "kernel")

    with pytest.raises(ConfigError, match="this backbone has none"):
        BitFit().phases(model(Bare()), 10)
