"""A fine-tuning step and a forward pass beside PyTorch, transformers and Keras, interleaved.

    python benchmarks/step_and_forward.py NETWORK [--batch N] [--rounds 7] [--precision bf16]

ResNet-20 reads 32 pixels and its peers are written out here; ResNet-18 and 50 and ViT-B/16 read 224
and their peer in PyTorch is timm's network where timm is installed, else transformers'; ResNet-50
has keras.applications' on jax as well. PyTorch runs channels_last, eager and under `torch.compile`;
with bf16 under autocast, as tlx computes in bfloat16 on float32 parameters. A step takes a batch
that is there already, SGD with Nesterov momentum and weight decay, batch statistics in use, and is
waited for; tlx also normalises inside of it. Forward is logits in evaluation. Compile time is told
apart. The share of the limit is what the compiler counts of multiplications and additions in tlx's
program, over what one large matrix product of the same precision reaches here. Writes
results/step_and_forward_NETWORK.json, on an accelerator with its kind and the precision in the
name.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reported import reported
from torch.nn import functional
from torch_resnet20 import ResNet20

from tlx import registry, trees
from tlx.config import OptimizerConfig
from tlx.devices.compiled import compiled
from tlx.model import Model
from tlx.objective import Objective
from tlx.planning.optimizer import transform
from tlx.planning.plan import plan
from tlx.types import Batch, Constants, Precision, TrainState, Variables

RATE, DECAY = 0.01, 5e-4
Once = Callable[[], Any]


class Network(NamedTuple):
    """What is timed of it: pictures of `size` pixels, `batch` of them."""

    size: int
    batch: int
    classes: int


NETWORKS = {
    "resnet20": Network(32, 128, 10),
    "resnet18": Network(224, 16, 1000),
    "resnet50": Network(224, 8, 1000),
    "vit_base_patch16": Network(224, 8, 1000),
}
TIMM = {"vit_base_patch16": "vit_base_patch16_224"}


class Peer(NamedTuple):
    """Something to time: one step, one forward pass, what compiling both took, and the compiler's
    count of floating-point operations in each where it gives one."""

    step: Once
    forward: Once
    compile_seconds: float
    operations: dict[str, float]


def in_tlx(name: str, network: Network, batch: int, precision: Precision) -> Peer:
    backbone = registry.build("backbones", name)
    head = registry.build("heads", "softmax", {"classes": network.classes})
    model = Model(backbone, head, backbone.inputs, precision=precision)
    rng, shape = np.random.default_rng(0), (batch, network.size, network.size, 3)
    data = Batch(
        {"image": jnp.asarray(rng.integers(0, 256, shape, np.uint8))},
        {"label": jnp.arange(batch) % network.classes},
        index=jnp.arange(batch),
        weight=jnp.ones(batch),
    )
    variables = jax.jit(model.init)(jax.random.key(0), data)
    (planned,) = plan(registry.build("strategies", "finetune"), model, variables.params, 1000)
    objective = Objective(planned.model, planned.phase.forward, (), (), ())
    config = OptimizerConfig(name="sgd", momentum=0.9, nesterov=True, schedule="constant")
    tx = transform(config, start=0, steps=1000, multipliers=planned.multipliers)
    step = registry.build("steps", "jit").build(objective, tx, planned.trainable, None)
    moving, _ = trees.partition(variables.params, planned.trainable)
    still = jax.tree.map(jnp.copy, variables)  # the step takes its state's memory
    state = TrainState(
        jnp.int32(0), variables.params, variables.state, tx.init(moving), jax.random.key(1), {}
    )
    hyper = {
        "learning_rate": jnp.float32(RATE),
        "weight_decay": jnp.float32(DECAY),
        "divergence": {},
        "steps": jnp.float32(1000),
    }
    constants = Constants({}, {}, {}, hyper)
    stacked = jax.tree.map(lambda leaf: leaf[None], data)

    fed = data._replace(targets={})

    def logits(variables: Variables, fed: Batch) -> Any:
        return model.apply(variables, fed, rng=jax.random.key(0), mode="eval").outputs

    begun = time.perf_counter()
    lowered = {
        "step": step.lower(state, constants, stacked),
        "forward": compiled(logits).lower(still, fed),
    }
    one, pass_ = (each.compile() for each in lowered.values())
    seconds = time.perf_counter() - begun

    def stepped() -> None:
        nonlocal state
        state, _ = one(state, constants, stacked)
        jax.block_until_ready(state.params)

    counted = {name: each.cost_analysis()["flops"] for name, each in lowered.items()}
    return Peer(stepped, lambda: jax.block_until_ready(pass_(still, fed)), seconds, counted)


def limit(precision: Precision, rounds: int = 5) -> float:
    """Operations a second of a matrix product of 8192 (on a CPU 2048) rows, the best of some."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    kind = jnp.bfloat16 if precision == "bf16" else jnp.float32
    a = jax.random.normal(jax.random.key(0), (size, size), kind)
    product = jax.jit(lambda a: a @ a).lower(a).compile()
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        for _ in range(10):
            found = product(a)
        jax.block_until_ready(found)
        seconds.append((time.perf_counter() - begun) / 10)
    return 2 * size**3 / min(seconds[1:])


def torch_network(name: str, network: Network) -> torch.nn.Module:
    """Logits of channels-first pictures."""
    if name == "resnet20":
        return ResNet20()
    if importlib.util.find_spec("timm"):
        import timm

        return timm.create_model(TIMM.get(name, name), num_classes=network.classes)
    if name.startswith("vit"):
        from transformers import ViTConfig, ViTForImageClassification

        return ViTForImageClassification(ViTConfig(num_labels=network.classes))
    from transformers import ResNetConfig, ResNetForImageClassification

    kind = {
        "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2]}
        | {"hidden_sizes": [64, 128, 256, 512]},
        "resnet50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3]},
    }[name]
    return ResNetForImageClassification(ResNetConfig(num_labels=network.classes, **kind))


def in_torch(name: str, network: Network, batch: int, precision: Precision, inductor: bool) -> Peer:
    torch.manual_seed(0)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    net = torch_network(name, network).to(where).to(memory_format=torch.channels_last)
    frozen = torch_network(name, network).to(where).to(memory_format=torch.channels_last).eval()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
    )
    x = torch.rand(batch, 3, network.size, network.size, device=where)
    x = x.to(memory_format=torch.channels_last)
    y = (torch.arange(batch) % network.classes).to(where)

    def logits(net: torch.nn.Module) -> torch.Tensor:
        with torch.autocast(where, torch.bfloat16, enabled=precision == "bf16"):
            found = net(x)
        return found if isinstance(found, torch.Tensor) else found.logits

    def loss() -> torch.Tensor:
        return functional.cross_entropy(logits(net).float(), y)

    @torch.inference_mode()
    def passed() -> torch.Tensor:
        return logits(frozen)

    if inductor:
        loss, passed = torch.compile(loss), torch.compile(passed)

    def waited() -> None:
        if where == "cuda":
            torch.cuda.synchronize()

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        waited()

    def forward() -> None:
        passed()
        waited()

    return _warmed(step, forward)


def in_keras(name: str, network: Network, batch: int) -> Peer:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    if name == "resnet20":
        from keras_resnet20 import resnet20

        arrays = {key: value.numpy() for key, value in ResNet20().state_dict().items()}
        net = keras.Sequential([resnet20(arrays), keras.layers.Dense(network.classes)])
    else:
        net = keras.applications.ResNet50(weights=None, classifier_activation=None)
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    net.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((batch, network.size, network.size, 3), np.float32)
    y = np.arange(batch) % network.classes
    return _warmed(lambda: net.train_on_batch(x, y), lambda: net.predict_on_batch(x))


def _warmed(step: Once, forward: Once) -> Peer:
    """Its first calls compile."""
    begun = time.perf_counter()
    step(), forward()
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    step(), forward()
    return Peer(step, forward, max(first - (time.perf_counter() - begun), 0.0), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    given = parser.parse_args()
    network = NETWORKS[given.network]
    batch, precision = given.batch or network.batch, given.precision
    known = given.network, network, batch
    peers = {
        "tlx": in_tlx(*known, precision),
        "torch": in_torch(*known, precision, inductor=False),
        "torch.compile": in_torch(*known, precision, inductor=True),
    }
    if given.network in ("resnet20", "resnet50") and precision == "float32":
        peers["keras"] = in_keras(given.network, network, batch)
    found: dict[str, dict[str, list[float]]] = {}
    for what in ("step", "forward"):
        found[what] = {name: [] for name in peers}
        for number in range(given.rounds + 1):
            for name, peer in peers.items():
                begun = time.perf_counter()
                getattr(peer, what)()
                if number:  # the first round warms up
                    found[what][name].append(1e3 * (time.perf_counter() - begun))
    ms = {
        what: {name: statistics.median(each) for name, each in times.items()}
        for what, times in found.items()
    }
    most = limit(precision)
    result = {
        "what": f"{given.network}, {network.size} pixels, batch {batch}, {precision}",
        "ms": {what: {name: round(t, 2) for name, t in each.items()} for what, each in ms.items()},
        "images_per_second": {
            what: {name: round(1e3 * batch / t, 1) for name, t in each.items()}
            for what, each in ms.items()
        },
        "share_of_limit": {
            what: round(count / (ms[what]["tlx"] / 1e3) / most, 3)
            for what, count in peers["tlx"].operations.items()
        },
        "limit_gflops": round(most / 1e9, 1),
        "speed_of_tlx_over": {
            what: {
                name: round(
                    statistics.median(b / a for a, b in zip(times["tlx"], each, strict=True)), 2
                )
                for name, each in times.items()
                if name != "tlx"
            }
            for what, times in found.items()
        },
        "compile_seconds": {name: round(peer.compile_seconds, 1) for name, peer in peers.items()},
        "rounds": given.rounds,
    }
    kind = jax.default_backend()
    where = "" if (kind, precision) == ("cpu", "float32") else f"_{kind}_{precision}"
    reported(f"step_and_forward_{given.network}{where}", result, torch=torch.__version__)


if __name__ == "__main__":
    main()
