"""A batch in parts: the update of the whole batch, batch norm as PyTorch's, and loops."""

import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tlx_steps.parts_of_batch import parted
from tlx_steps.repeated import repeated

from tlx.model import Model
from tlx.objective import Objective, Term
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.testing.world import ToyHead
from tlx.trees import flat
from tlx.types import Batch, Constants, RowBatch, TrainState

BATCH, RATE = 12, 0.1
TX = optax.GradientTransformationExtraArgs(
    lambda params: (),
    lambda updates, state, params=None, **_: (jax.tree.map(lambda g: -RATE * g, updates), state),
)


def supervised(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)


@dataclass(frozen=True)
class Case:
    """A toy without dropout in its first state, a source beside it, two divergences and a batch
    whose last examples count less."""

    norm: str

    def __post_init__(self):
        backbone = ToyBackbone(dropout=0.0)
        model = Model(backbone, ToyHead(), backbone.inputs, norm=self.norm)
        terms = (
            Term("kl", build("divergences", "kl")),
            Term("l2_sp", build("divergences", "l2_sp")),
        )
        rng = np.random.default_rng(0)
        batch = Batch(
            {"image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3), np.uint8))},
            {"label": jnp.asarray(np.arange(BATCH) % 3)},
            jnp.arange(BATCH),
            jnp.asarray([1.0] * 7 + [0.5] * 3 + [0.0] * 2),
        )
        one, other = (model.init(jax.random.key(k), batch) for k in (0, 1))
        hyper = {
            "learning_rate": jnp.float32(RATE), "weight_decay": jnp.float32(0),
            "divergence": {"kl": jnp.float32(0.5), "l2_sp": jnp.float32(0.1)},
            "steps": jnp.float32(10),
        }  # fmt: skip
        made = {
            "objective": Objective(model, supervised, terms, (("source", model),)),
            "variables": one,
            "constants": Constants({"source": other}, {}, {}, hyper),
            "batch": batch,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def stepped(self, **options):
        """(state, metrics) after a step with these options; and the state that went in."""
        start = jax.tree.map(jnp.copy, self.variables)
        train = TrainState(jnp.int32(0), start.params, start.state, (), jax.random.key(2), {})
        every = jax.tree.map(lambda leaf: True, start.params)
        step = build("steps", "jit", options).build(self.objective, TX, every, None)
        stacked = jax.tree.map(lambda leaf: leaf[None], self.batch)
        return *step(train, self.constants, stacked), train


@pytest.fixture(scope="module")
def still():
    return Case("frozen")


def close(seen, wanted, **how):
    seen, wanted = flat(seen), flat(wanted)
    assert seen.keys() == wanted.keys()
    for path in wanted:
        np.testing.assert_allclose(
            seen[path], wanted[path], **{"rtol": 1e-5, "atol": 1e-6} | how, err_msg=path
        )


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_the_whole_where_examples_are_known_one_by_one(still, parts):
    """Weights, padding, a divergence of outputs and one of parameters, which counts once."""
    whole, said, _ = still.stepped()
    found, told, _ = still.stepped(accumulate=parts)
    close(found.params, whole.params)
    assert float(said["divergence/l2_sp/weighted"][0]) > 0.1
    close(told, said)
    assert int(found.step) == 1


def test_parts_are_a_loop_over_them_by_hand(still):
    """sum over parts of (weight share x gradient of its weighted mean) + mean of the rest."""
    objective, constants = still.objective, still.constants
    params, state = still.variables
    weights, parts = still.batch.weight, 3
    total, wanted = float(weights.sum()), None
    for k in range(parts):
        part = jax.tree.map(lambda leaf, k=k: leaf[k::parts], still.batch)
        share = float(part.weight.sum()) / total

        def loss(params, part=part, share=share):
            _, (_, found) = objective(
                params, state, part, constants, rng=jax.random.key(0), progress=jnp.float32(0)
            )
            rest = found["divergence/kl/weighted"] + found["divergence/l2_sp/weighted"]
            return share * found["task"] + rest / parts

        slope = jax.jit(jax.grad(loss))(params)
        wanted = slope if wanted is None else jax.tree.map(jnp.add, wanted, slope)
    found, _, _ = still.stepped(accumulate=parts)
    close(found.params, jax.tree.map(lambda p, g: p - RATE * g, params, wanted))


def test_batch_norm_sees_parts_as_pytorch_does():
    """Gradients of two backward passes, statistics moved twice, one step of the optimizer."""
    import torch
    from flax import nnx
    from tlx_flax.batch_norm import BatchNorm
    from tlx_flax.nnx_backbone import wrap_nnx
    from tlx_image import ImageInput

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), padding=1, use_bias=False, rngs=rngs)
            self.bn = BatchNorm(4)

        def __call__(self, x):
            return nnx.relu(self.bn(self.conv(x))).mean((1, 2))

    case, backbone = Case("train"), wrap_nnx(Net, ("pooled",), ImageInput(size=(8, 8)))
    model = Model(backbone, ToyHead(), backbone.inputs)
    batch = case.batch._replace(weight=jnp.ones(BATCH))
    variables = model.init(jax.random.key(0), batch)
    for name, value in {
        "objective": Objective(model, supervised), "variables": variables, "batch": batch
    }.items():  # fmt: skip
        object.__setattr__(case, name, value)
    after, said, _ = case.stepped(accumulate=2)

    params = jax.tree.map(np.asarray, variables.params)
    body, head = params["backbone"], params["head"]
    conv, bn = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4)
    top = torch.nn.Linear(4, 3)
    conv.weight.data = torch.tensor(body["conv"]["kernel"].transpose(3, 2, 0, 1))
    top.weight.data, top.bias.data = torch.tensor(head["kernel"].T), torch.tensor(head["bias"])
    every = [conv.weight, bn.weight, bn.bias, top.weight, top.bias]
    optimizer, losses = torch.optim.SGD(every, RATE), []
    images = np.asarray(batch.inputs["image"], np.float32).transpose(0, 3, 1, 2) / 255
    for k in range(2):
        seen = bn(conv(torch.tensor(images[k::2]))).relu().mean((2, 3))
        label = torch.tensor(np.asarray(batch.targets["label"])[k::2], dtype=torch.long)
        loss = torch.nn.functional.cross_entropy(top(seen), label)
        (loss / 2).backward()
        losses.append(loss.item())
    optimizer.step()

    now = jax.tree.map(np.asarray, after.params)
    numbers = [parameter.detach().numpy() for parameter in every]
    close(
        now["backbone"],
        {
            "conv": {"kernel": numbers[0].transpose(2, 3, 1, 0)},
            "bn": {"scale": numbers[1], "bias": numbers[2]},
        },
    )
    close(now["head"], {"kernel": numbers[3].T, "bias": numbers[4]})
    statistics = {"mean": bn.running_mean.numpy(), "var": bn.running_var.numpy()}
    close(after.state["backbone"]["bn"], statistics)
    assert float(said["loss"][0]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_parts_keep_every_example_in_every_entry():
    number, image = jnp.arange(12), jnp.arange(24).reshape(12, 2)
    batch = Batch({"image": image}, {}, number, number, Batch({"image": image}, {}, number, number))
    found = parted(batch, 3)
    assert found.inputs["image"].shape == (3, 4, 2)
    np.testing.assert_array_equal(found.domain.index[1], [1, 4, 7, 10])
    np.testing.assert_array_equal(found.inputs["image"][2, 0], batch.inputs["image"][2])
    rows = parted(RowBatch(number, number), 3)
    np.testing.assert_array_equal(rows.rows[1], [1, 4, 7, 10])


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("convolves", [True, False])
def test_only_a_cpu_has_convolutions_written_out(monkeypatch, backend, convolves):
    kernel = jnp.ones((3, 1, 1)) if convolves else None

    def body(carry, x):
        if kernel is None:
            return carry + x, carry.sum()
        return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME"), carry.sum()

    def run(carry, each):
        monkeypatch.setattr(jax, "default_backend", lambda: backend)
        return repeated(body, carry, each)

    arguments = (jnp.ones((1, 3, 1)), jnp.ones((4, 1, 3, 1)))
    kernel = jnp.ones((3, 3, 1)) if convolves else None
    text = str(jax.make_jaxpr(run)(*arguments))
    assert ("scan[" in text) == (backend == "gpu" or not convolves)
    assert len(re.findall("conv_general_dilated\\[", text)) == (
        0 if not convolves else 4 if backend == "cpu" else 1
    )
