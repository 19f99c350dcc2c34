"""Seconds until a fine-tuned network is as accurate as asked, beside a careful loop in PyTorch.

    python benchmarks/to_accuracy.py [--data FOLDER] [--size 64] [--accuracy 0.9] [--inductor]
    python benchmarks/to_accuracy.py --network resnet20 --pictures 2000 --batch 64 --accuracy 0.35 \
        --precision float32 --rounds 1

ResNet-18 starts from an ImageNet trunk, whose folded norms start anew from the batches, with stage
4 and head random, and learns CIFAR-10, enlarged on the device. ResNet-20, from random numbers at 32
pixels, is for a trial on a CPU. tlx is `tlx.loop.train` on a run file; the peer is the loop of
`torch_finetune.py` around timm's network where timm is installed, else transformers', eager and
with --inductor compiled as well. Both start from the same numbers, which tlx writes and PyTorch
loads by its own names: before the clock starts their logits are compared. Batches are alike in size
and number, and so are rates, decay and evaluations.

The clock runs from data and numbers on disk to the first evaluation that reaches the accuracy on
pictures held out of the training split; building, loading and copying count. Compiling is told
apart: tlx's by jax's events, PyTorch's as what its first calls took longer than a later one. A way
that does not get there within the epochs has null. Interleaved rounds, each with its own seed.
Writes results/to_accuracy_NETWORK_KIND.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from compiling import Compiling
from reported import reported
from step_and_forward import NETWORKS, torch_network
from torch_finetune import MOMENTUM, PADDING, FirstCalls, FromBytes, Recipe, finetuned
from transfer.few_labels import cifar10

from tlx import config as configs
from tlx import registry
from tlx.assemble import Experiment, assemble
from tlx.loop import train
from tlx.model import Model
from tlx.types import Event, Variables, unlabelled
from tlx.weights.export import with_counters
from tlx.weights.matching import state_dict

HERE = Path(__file__).resolve().parent
TRUNK = "resnet18_imagenet_trunk.npz"
CHECKED = 32  # pictures of which both networks must say the same


class Reached(Exception):
    """Ends a run that is as accurate as asked."""


class Listener:
    """A sink: what each evaluation found, and when that was enough, which ends the run."""

    def __init__(self, wanted: float, compiled: Callable[[], float]) -> None:
        self.wanted, self.compiled = wanted, compiled
        self.begun, self.before = time.perf_counter(), compiled()
        self.curve, self.rates = list[float](), list[float]()
        self.seconds, self.compile = math.inf, 0.0

    def emit(self, event: Event) -> None:
        if event.kind == "train":
            self.rates.append(event.data["images_per_second"])
        elif event.kind == "eval":
            self.curve.append(event.data["metrics"]["accuracy"])
            self.compile = self.compiled() - self.before
            if self.curve[-1] >= self.wanted:
                self.seconds = time.perf_counter() - self.begun
                raise Reached

    def close(self) -> None:
        """Nothing is open."""


class Start(NamedTuple):
    """What lies on disk when the clock starts, and what is done with it."""

    table: dict[str, Any]
    pictures: Path
    numbers: Path
    recipe: Recipe


def in_tlx(start: Start, wanted: float, *, compiling: Compiling) -> Listener:
    heard = Listener(wanted, lambda: compiling.seconds)
    # Not through `Sinks`, which outlives a listener that raises.
    with suppress(Reached), tempfile.TemporaryDirectory() as out:
        train(assemble(configs.parse(start.table)), Path(out), heard, resume=False)
    return heard


def in_torch(start: Start, wanted: float, *, inductor: str | None) -> Listener:
    firsts: list[FirstCalls] = []
    heard = Listener(wanted, lambda: sum(each.seconds for each in firsts))
    table, (_, pictures, numbers, recipe) = start.table, start
    network = partial(network_of, table["backbone"])
    about = {"seed": table["seed"], "inductor": inductor, "firsts": firsts}
    with suppress(Reached):
        for rate, accuracy in finetuned(network, numbers, pictures, recipe, **about):
            heard.emit(Event("train", 0, {"images_per_second": rate}))
            heard.emit(Event("eval", 0, {"metrics": {"accuracy": accuracy}}))
    return heard


def network_of(name: str) -> torch.nn.Module:
    return torch_network(name, NETWORKS[name]._replace(classes=10))


def started(given: argparse.Namespace, seed: int, pictures: Path, folder: Path) -> Start:
    """A round's run file, and the numbers that it starts from, for `torch.load`."""
    table: dict[str, Any] = {
        "name": "to_accuracy", "seed": seed, "backbone": given.network, "sink": [],
        "epochs": given.epochs, "batch_size": given.batch, "eval_every": given.eval_every,
        "precision": given.precision, "log_every": 10**6, "checkpoint_seconds": 1e6,
        "data": {"name": "npz", "path": str(pictures)},
        "augmentation": ["flip", {"name": "crop", "padding": PADDING}],
        "optimizer": {"name": "sgd", "learning_rate": given.rate, "weight_decay": given.decay,
                      "momentum": MOMENTUM, "nesterov": True, "schedule": "cosine"},
    }  # fmt: skip
    if given.network == "resnet18":
        table["weights"] = {
            "name": "npz", "path": str(given.data / TRUNK), "allow": ["*/stage4/*"],
            "input": {"size": given.size},
        }  # fmt: skip
    whole = assemble(configs.parse(table))
    inputs, every = whole.model.inputs, max(1, round(given.eval_every * whole.steps_per_epoch))
    shared = whole.steps, every, given.batch, given.rate, given.decay, given.precision == "bf16"
    recipe = Recipe(*shared, inputs.size, inputs.mean, inputs.std)
    written(whole, recipe, numbers := folder / f"{seed}.pth")
    return Start(table, pictures, numbers, recipe)


@partial(jax.jit, static_argnums=0)
def logits(model: Model, variables: Variables, image: Any) -> Any:
    fed = unlabelled({"image": image})
    return model.apply(variables, fed, rng=jax.random.key(0), mode="eval").outputs


def written(whole: Experiment, recipe: Recipe, file: Path) -> None:
    """The numbers that tlx starts from; refused unless PyTorch's network says the same with them,
    both in float32, PyTorch on the CPU, where that is not rounded to fewer bits."""
    net, known = network_of(whole.config.backbone.name).eval(), whole.model.backbone.dialects
    named = (with_counters(state_dict(whole.variables, d), d) for d in known)
    tensors = next(each for each in named if each.keys() == net.state_dict().keys())
    registry.build("weights", "torch", {"path": str(file)}).write(tensors, {})
    net.load_state_dict(torch.load(file, weights_only=True), strict=True)
    image = np.stack([whole.splits.val[i]["image"] for i in range(CHECKED)])
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(logits(whole.model, whole.variables, image))
    with torch.no_grad():
        theirs = FromBytes(net, recipe)(torch.from_numpy(image).permute(0, 3, 1, 2)).numpy()
    off, most = np.abs(ours - theirs).max(), np.abs(ours).max()
    print(f"logits of {most:.3g} at the most differ by {off:.1e}", flush=True)
    assert off <= 1e-3 * most, "The two networks do not start alike."


def cut(given: argparse.Namespace, file: Path) -> tuple[int, int]:
    """Training and held-out pictures in whole batches, so that nobody pads; how many of each."""
    images, labels, names = cifar10(given.data, "train")
    held = given.held_out // given.batch * given.batch
    count = min(given.pictures, len(images) - held) // given.batch * given.batch
    np.savez(
        file, x_train=images[:count], y_train=labels[:count], class_names=names,
        x_val=images[-held:], y_val=labels[-held:],
        x_test=images[-1:], y_test=labels[-1:],  # nobody looks at it, but tlx asks for one
    )  # fmt: skip
    return count, held


def median(values: list[float], digits: int = 3) -> float | None:
    """None where half of them or more never came."""
    found = statistics.median(values)
    return round(found, digits) if math.isfinite(found) else None


def ratios(seconds: dict[str, float | None]) -> dict[str, float | None]:
    """Of every other one's to tlx's."""
    ours, others = seconds["tlx"], list(seconds.items())[1:]
    return {name: round(each / ours, 2) if each and ours else None for name, each in others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--network", choices=("resnet18", "resnet20"), default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels, 32 or more, of resnet18")
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--held-out", type=int, default=5_000)
    parser.add_argument("--accuracy", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--eval-every", type=float, default=1.0, help="epochs")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="bf16")
    parser.add_argument("--inductor", nargs="?", const="default", help="torch.compile, its mode")
    given = parser.parse_args()
    ways: dict[str, Callable[[Start, float], Listener]] = {
        "tlx": partial(in_tlx, compiling=Compiling()),
        "torch": partial(in_torch, inductor=None),
    }
    if given.inductor:
        ways["torch.compile"] = partial(in_torch, inductor=given.inductor)
    heard: dict[str, list[Listener]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        count, held = cut(given, pictures := Path(folder) / "cifar10.npz")
        for seed in range(given.rounds):
            start = started(given, seed, pictures, Path(folder))
            for name, way in ways.items():
                heard[name].append(found := way(start, given.accuracy))
                print(seed, name, found.seconds, found.compile, found.curve, flush=True)

    def of(number: Callable[[Listener], float], digits: int = 3) -> dict[str, float | None]:
        return {name: median([number(one) for one in each], digits) for name, each in heard.items()}

    seconds, whole = of(lambda one: one.seconds - one.compile), of(lambda one: one.seconds)
    result = {
        "what": f"{given.network} to {given.accuracy} on {held:,} held-out pictures of CIFAR-10, "
        f"{count:,} to train, {(start.recipe.size or [32])[0]} pixels, batch "
        f"{given.batch}, {given.precision}",
        "seconds": seconds,
        "with_compile": whole,
        "compile_seconds": of(lambda one: one.compile),
        "images_per_second": of(lambda one: statistics.median(one.rates), 1),
        "times_faster_than": ratios(seconds),
        "times_faster_than_with_compile": ratios(whole),
        "reached": {n: sum(o.seconds < math.inf for o in each) for n, each in heard.items()},
        "curves": {name: [one.curve for one in each] for name, each in heard.items()},
        **{name: getattr(given, name) for name in ("epochs", "eval_every", "rate", "rounds")},
    }
    peer = type(network_of(given.network)).__module__.partition(".")[0]
    peers = {"torch": torch.__version__, peer: getattr(sys.modules[peer], "__version__", "here")}
    reported(f"to_accuracy_{given.network}_{jax.default_backend()}", result, **peers)


if __name__ == "__main__":
    main()
