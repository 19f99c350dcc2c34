"""The network in a file is found behind whatever a trainer laid around its names."""

import jax.numpy as jnp
import numpy as np
import pytest

from tlx.contracts.dialect import Dialect, Row
from tlx.errors import WeightsError
from tlx.types import Tensors, Variables
from tlx.weights.matching import match

ROWS = (
    Row("conv1.weight", "params/backbone/stem/kernel"),
    Row("layer{b}.bias", "params/backbone/block{b}/bias"),
    Row("layer{b}.weight", "params/backbone/block{b}/kernel"),
    Row("fc.weight", "params/head/kernel"),
)
DIALECTS = (Dialect("d", ROWS),)
LIKE = Variables(
    {
        "backbone": {
            "stem": {"kernel": jnp.zeros(2)},
            **{f"block{b}": {"kernel": jnp.zeros(3), "bias": jnp.zeros(1)} for b in (1, 2)},
        },
        "head": {"kernel": jnp.zeros(4)},
    },
    {},
)


def network(scale=1.0, prefix="", head="fc.weight"):
    sizes = {"conv1.weight": 2, "layer1.weight": 3, "layer1.bias": 1, "layer2.weight": 3}
    sizes |= {"layer2.bias": 1, head: 4}
    return {f"{prefix}{name}": np.full(n, scale, np.float32) for name, n in sizes.items()}


def read(tensors, prefix=""):
    return match(Tensors(tensors, "x.pth"), LIKE, DIALECTS, prefix)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "backbone.", "encoder.", "_orig_mod.", "module.model.",
     "_orig_mod.module.", "model.encoder.net.", "net/"],
)  # fmt: skip
def test_whatever_stands_before_all_names(prefix):
    variables, report = read(network(prefix=prefix))
    assert (len(report.loaded), report.skipped, report.prefix) == (6, (), prefix)
    assert (variables.params["backbone"]["block2"]["kernel"] == 1).all()


def test_a_head_further_out_than_the_body():
    body = {k: v for k, v in network(prefix="model.backbone.").items() if "fc" not in k}
    for outer in ("", "model."):
        report = read({**body, f"{outer}fc.weight": np.ones(4, np.float32)})[1]
        assert (len(report.loaded), report.skipped) == (6, ())
    both = {**network(2.0, prefix="model."), "fc.weight": np.ones(4, np.float32)}
    assert (read(both)[0].params["head"]["kernel"] == 2).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("encoder_q.", "encoder_k."),
        ("module.encoder_q.", "module.encoder_k."),
        ("backbone.", "momentum_backbone."),
        ("teacher.backbone.", "student.backbone."),
    ],
)
def test_of_two_networks_one_is_chosen(one, other):
    two = {**network(1.0, one), **network(2.0, other), "queue": np.ones((2, 9), np.float32)}
    with pytest.raises(WeightsError, match="2 times, with different numbers") as said:
        read(two)
    assert f"behind '{one}', '{other}'" in str(said.value)
    assert f'[weights] prefix = "{one}"' in str(said.value)
    for typed in (other, other.rstrip(".")):
        variables, report = read(two, typed)
        assert (variables.params["backbone"]["stem"]["kernel"] == 2).all()
        assert {tensor.part for tensor in report.skipped} == {""}
        assert report.prefix == other
    with pytest.raises(WeightsError, match=r"behind the prefix 'encoder_p' in x\.pth") as said:
        read(two, "encoder_p")
    assert f"There are {one}, {other}." in str(said.value)


def test_an_average_beside_the_network_is_not_a_second_one():
    for average in ("ema.", "model_ema.module.", "swa_model.", "opt_state.0.mu."):
        variables, report = read({**network(2.0, average), **network(1.0, "model.")})
        assert (variables.params["backbone"]["stem"]["kernel"] == 1).all()
        assert len(report.skipped) == 6
        assert {t.why for t in report.skipped if "fc" not in t.name} == {
            "it stands beside the network, which is behind 'model.'"
        }
    report = read({**network(), **network(2.0, "momentum_encoder."), **network(2.0, "twin.")})[1]
    assert (report.prefix, len(report.loaded)) == ("", 6)
    assert len(report.skipped) == 12
    assert {tensor.part for tensor in report.skipped} == {""}


def test_the_same_module_under_two_names_is_one():
    assert read({**network(prefix="backbone."), **network(prefix="model.0.")})[1].loaded


def test_of_two_sizes_the_one_that_fits():
    large = {name: np.ones(9, np.float32) for name in network(prefix="teacher.")}
    assert read({**large, **network(prefix="student.")})[1].prefix == "student."


@pytest.mark.parametrize("between", ["/", "."])
@pytest.mark.parametrize("before", ["", "params", "state.params", "target"])
def test_the_names_of_a_framework_without_any_dialect(between, before):
    like = Variables(
        {"backbone": {"Dense_0": {"kernel": jnp.zeros(2)}, "Dense_1": {"kernel": jnp.zeros(2)}}},
        {"backbone": {"batch_stats": {"bn": {"mean": jnp.zeros(2)}}}},
    )
    last = before.rpartition("params")[0] if "params" in before else f"{before}."
    names = (f"{before}.Dense_0.kernel", f"{before}.Dense_1.kernel", f"{last}batch_stats.bn.mean")
    tensors = {n.lstrip(".").replace(".", between): np.ones(2, np.float32) for n in names}
    report = match(Tensors(tensors, "x"), like)[1]
    assert (len(report.loaded), report.skipped) == (3, ())
