"""CIFAR-10 fine-tuning to a fixed accuracy, from pictures on disk to where it is reached.

    python benchmarks/to_accuracy.py --accuracy 0.9 [--network resnet18] [--epochs 10] [--inductor]

tlx beside the loop of a careful user of PyTorch: the same initial numbers (checked: both give the
same logits before a clock starts), the same SGD with momentum and cosine schedule, flips and shifts
drawn on the device, pictures that lie there already, channels_last, bf16 (float32 on a CPU), timm's
network where timm is installed, else one that is written out here. `resnet18` starts from an
ImageNet trunk without its last stage and enlarges pictures to `--size` pixels on the device;
`resnet20` starts from random numbers and reads 32. Both look at 5,000 pictures apart after every
epoch and stop where the accuracy is reached. Compiling is told apart, where jax says how long it
took. Writes results/to_accuracy_NETWORK_BACKEND.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from compiling import Compiling
from reported import reported
from step_and_forward import NETWORKS, torch_network
from torch.nn import functional
from transfer.few_labels import unpacked

from tlx import config as configs
from tlx.assemble import Experiment, assemble
from tlx.export import with_counters
from tlx.loop import train
from tlx.matching import state_dict
from tlx.types import Event

HERE = Path(__file__).resolve().parent
RATE, MOMENTUM, DECAY, SHIFT = 0.02, 0.9, 5e-4, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Reached(Exception):
    """The accuracy that was asked for: nothing else is to be trained."""


class Watching:
    """A sink that notes when each evaluation ended, and what it said."""

    def __init__(self, wanted: float, begun: float) -> None:
        self.wanted, self.begun = wanted, begun
        self.curve: list[tuple[float, float]] = []

    def emit(self, event: Event) -> None:
        if event.kind == "eval":
            reached = float(event.data["metrics"]["accuracy"])
            self.curve.append((time.perf_counter() - self.begun, reached))
            if reached >= self.wanted:
                raise Reached

    def close(self) -> None:
        pass


class Task(NamedTuple):
    """What both are given."""

    network: str
    pictures: Path
    trunk: Path
    size: int
    epochs: int
    batch: int
    val: int
    wanted: float

    @property
    def bf16(self) -> bool:
        return jax.default_backend() != "cpu"


def table(task: Task) -> dict[str, Any]:
    weights: Any = {
        "name": "npz", "path": str(task.trunk), "allow": ["*/stage4/*"],
        "input": {"mean": list(MEAN), "std": list(STD), "size": [task.size, task.size]},
    }  # fmt: skip
    return {
        "name": "to-accuracy", "backbone": task.network, "epochs": task.epochs, "sink": [],
        "batch_size": task.batch, "precision": "bf16" if task.bf16 else "float32",
        "weights": "none" if task.network == "resnet20" else weights,
        "data": {"name": "npz", "path": str(task.pictures), "val": task.val, "check": 0},
        "augmentation": ["flip", {"name": "crop", "padding": SHIFT}],
        "optimizer": {"name": "sgd", "learning_rate": RATE, "momentum": MOMENTUM,
                      "weight_decay": DECAY, "schedule": "cosine"},
    }  # fmt: skip


def in_tlx(task: Task) -> list[tuple[float, float]]:
    watching = Watching(task.wanted, time.perf_counter())
    with tempfile.TemporaryDirectory() as folder, suppress(Reached):
        train(assemble(configs.parse(table(task))), Path(folder), watching, resume=False)
    return watching.curve


class Peer:
    """The loop in PyTorch, from what tlx starts with."""

    def __init__(self, task: Task, whole: Experiment, inductor: bool) -> None:
        self.task, self.inductor = task, inductor
        self.where = "cuda" if torch.cuda.is_available() else "cpu"
        dialects = {d.name: d for d in whole.model.backbone.dialects}  # type: ignore[attr-defined]
        theirs = set(self.network().state_dict())
        for dialect in dialects.values():
            found = with_counters(state_dict(whole.variables, dialect), dialect)
            if set(found) == theirs:
                break
        else:
            raise SystemExit(f"No dialect of {task.network} has the names of the peer's network.")
        self.start = {name: torch.from_numpy(np.array(leaf)) for name, leaf in found.items()}
        self.mean, self.std = (
            torch.tensor(values, device=self.where)[:, None, None]
            for values in (whole.model.inputs.mean, whole.model.inputs.std)
        )
        parts = whole.splits.train, whole.splits.val
        self.rows = [torch.from_numpy(part.indices).to(self.where) for part in parts]

    def network(self) -> torch.nn.Module:
        return torch_network(self.task.network, NETWORKS[self.task.network]._replace(classes=10))

    def ready(self) -> torch.nn.Module:
        net = self.network()
        net.load_state_dict(self.start)
        return net.to(self.where).to(memory_format=torch.channels_last)

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        """Bytes (B,3,H,W) as the network reads them."""
        x = (image.float() / 255 - self.mean) / self.std
        if self.task.size != x.shape[-1]:
            size = (self.task.size, self.task.size)
            x = functional.interpolate(x, size, mode="bilinear", align_corners=False)
        return x.contiguous(memory_format=torch.channels_last)

    def logits(self, net: Any, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.where, torch.bfloat16, enabled=self.task.bf16):
            found = net(self.prepared(image))
        return (found if isinstance(found, torch.Tensor) else found.logits).float()

    def run(self) -> list[tuple[float, float]]:
        task, begun = self.task, time.perf_counter()
        with np.load(task.pictures) as file:
            images = torch.from_numpy(file["x_train"]).permute(0, 3, 1, 2).to(self.where)
            labels = torch.from_numpy(file["y_train"].astype(np.int64)).to(self.where)
        rows, held = self.rows
        net = self.ready()
        optimizer = torch.optim.SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        each = len(rows) // task.batch
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, each * task.epochs)
        seen = torch.compile(net) if self.inductor else net
        curve: list[tuple[float, float]] = []
        for _ in range(task.epochs):
            net.train()
            order = rows[torch.randperm(len(rows), device=self.where)]
            for batch in order[: each * task.batch].split(task.batch):
                optimizer.zero_grad(set_to_none=True)
                found = self.logits(seen, self.augmented(images[batch]))
                functional.cross_entropy(found, labels[batch]).backward()
                optimizer.step()
                schedule.step()
            net.eval()
            with torch.inference_mode():
                right = sum(
                    (self.logits(net, images[some]).argmax(1) == labels[some]).sum()
                    for some in held.split(512)
                )
            curve.append((time.perf_counter() - begun, float(right) / len(held)))
            if curve[-1][1] >= task.wanted:
                break
        return curve

    def augmented(self, image: torch.Tensor) -> torch.Tensor:
        """Half of them flipped, each shifted by up to `SHIFT` pixels."""
        count, _, height, width = image.shape
        flip = torch.rand(count, device=self.where) < 0.5
        image = torch.where(flip[:, None, None, None], image.flip(3), image)
        wide = functional.pad(image, (SHIFT,) * 4)
        dy, dx = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), device=self.where)
        y = (dy + torch.arange(height, device=self.where))[:, :, None]
        x = (dx + torch.arange(width, device=self.where))[:, None, :]
        at = torch.arange(count, device=self.where)[:, None, None]
        return wide.permute(0, 2, 3, 1)[at, y, x].permute(0, 3, 1, 2)


def alike(whole: Experiment, peer: Peer, image: np.ndarray) -> float:
    """The largest difference of both networks' logits in evaluation, relative to the largest."""
    batch = {"image": image, "label": np.zeros(len(image), np.int32), "weight": np.ones(len(image))}
    model, key = whole.final.model, jax.random.key(0)
    ours = np.asarray(model.forward(*whole.variables, batch, rng=key, mode="eval").outputs)
    with torch.inference_mode():
        given = torch.from_numpy(image).permute(0, 3, 1, 2).to(peer.where)
        theirs = peer.logits(peer.ready().eval(), given).cpu().numpy()
    return float(abs(ours - theirs).max() / abs(ours).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"))
    parser.add_argument("--network", choices=("resnet18", "resnet20"), default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--accuracy", type=float, default=0.9)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--pictures", type=int, default=50_000, help="the validation split among them"
    )
    parser.add_argument("--val", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--inductor", action="store_true", help="PyTorch under torch.compile")
    given = parser.parse_args()
    unpacked(given.data, given.work)
    compiling = Compiling()
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.npz"
        with np.load(given.work / "cifar10.npz") as file:
            kept = {n: file[n][: given.pictures] for n in ("x_train", "y_train")}
            np.savez(few, **kept, **{n: file[n][:1000] for n in ("x_test", "y_test")})
        size = 32 if given.network == "resnet20" else given.size
        task = Task(
            given.network, few, given.data / "resnet18_imagenet_trunk.npz", size,
            given.epochs, given.batch, given.val, given.accuracy,
        )  # fmt: skip
        whole = assemble(configs.parse(table(task)))
        peer = Peer(task, whole, given.inductor)
        apart = alike(whole, peer, kept["x_train"][:8])
        if apart > (0.05 if task.bf16 else 1e-3):
            raise SystemExit(f"The networks do not start alike: logits differ by {apart:.2g}.")
        found: dict[str, list[Any]] = {"tlx": [], "torch": []}
        compiled = []
        for _ in range(given.rounds):
            before = compiling.seconds
            found["tlx"].append(in_tlx(task))
            compiled.append(compiling.seconds - before)
            found["torch"].append(peer.run())
    reached = {name: [_when(curve, task.wanted) for curve in some] for name, some in found.items()}
    ratios = [b / a for a, b in zip(*reached.values(), strict=True) if a and b]
    every = len(ratios) == given.rounds
    result = {
        "what": f"{given.network}, {given.pictures - given.val:,} pictures of CIFAR-10 at {size} "
        f"pixels, batch {given.batch}, to {given.accuracy:.1%} within {given.epochs} epochs",
        "seconds": {
            name: round(statistics.median(some), 2) if all(some) else None
            for name, some in reached.items()
        },
        "compile_seconds_of_tlx": round(statistics.median(compiled), 2),
        "times_faster": round(statistics.median(ratios), 2) if every else None,
        "curves": {
            name: [[[round(s, 2), round(a, 4)] for s, a in curve] for curve in some]
            for name, some in found.items()
        },
        "logits_apart_at_the_start": apart,
        "inductor": given.inductor,
        "rounds": given.rounds,
    }
    name = f"to_accuracy_{given.network}_{jax.default_backend()}"
    reported(name, result, torch=torch.__version__)


def _when(curve: list[tuple[float, float]], wanted: float) -> float | None:
    """Seconds until the accuracy was reached; None where it was not."""
    return next((seconds for seconds, accuracy in curve if accuracy >= wanted), None)


if __name__ == "__main__":
    main()
