"""Options for a factory that cannot be called without any.

Most factories have a default for every option. What the core fills in (`classes`) has a value
here. A `path` is tried with the common forms of its kind until the factory takes one: a folder of
pictures, an npz, a safetensors file, a run folder. A factory that needs anything else has an
attribute `sample(folder) -> options` that writes what it reads below `folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from tlx.backbones.wrapping import nested
from tlx.contracts.options import schema
from tlx.errors import PluginError, listed

VALUES: Mapping[str, Any] = {"classes": 3, "outputs": 2}
CLASSES = ("ant", "bee", "cat")
LEAVES: Mapping[str, tuple[int, ...]] = {
    "params/backbone/stage1/conv/kernel": (3, 3, 3, 4),
    "params/backbone/stage1/conv/bias": (4,),
    "params/head/kernel": (4, 3),
    "state/backbone/stage1/mean": (4,),
    "state/backbone/stage1/count": (2,),
    "foreign.bias": (6,),
}
"""What the sample weight files hold: leaf path -> shape, and a name that is no leaf path."""
FOREIGN = "foreign.bias"


@final
@dataclass(frozen=True)
class _Named:
    """A plugin as a run file names it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def made(kind: str, factory: Callable[..., Any], folder: Path) -> Any:
    """What the factory makes of sample options; files are written below `folder`.

    Raises PluginError where the kit has no value for a required option."""
    sample: Any = getattr(factory, "sample", None)
    if sample is not None:
        options: dict[str, Any] = sample(folder)
        return factory(**options)
    needed = [option.name for option in schema(factory) if option.required]
    values = {**VALUES, "classes": CLASSES} if kind == "fields" else VALUES  # by their names
    fixed = {name: values[name] for name in needed if name in values}
    unknown = [name for name in needed if name not in values]
    if not unknown:
        return factory(**fixed)
    refusals = []
    if unknown == ["path"]:
        for path in _paths(kind, folder):
            try:
                return _usable(kind, factory(path=str(path), **fixed))
            except Exception as e:
                refusals.append(f"{path.name}: {e}")
    raise PluginError(
        f"The kit has no value for the option {listed(unknown)} of this factory. Give the factory "
        f"an attribute `sample(folder)` that returns its options. {' '.join(refusals)}".strip()
    )


def weights() -> dict[str, Any]:
    """The numbers in the sample weight files, by leaf path."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in LEAVES.items()}


def _usable(kind: str, thing: Any) -> Any:
    """The thing, if it can read what it was pointed at: some only find out when used."""
    if kind == "datasets":
        assert thing.info
    if kind == "weights":
        assert thing.tensors().values, "it holds no tensor"
    return thing


def _paths(kind: str, folder: Path) -> Iterator[Path]:
    if kind == "datasets":
        yield _pictures(folder / "pictures")
        yield _arrays(folder / "arrays.npz")
    if kind == "weights":
        yield from _weight_files(folder)


def _pictures(folder: Path) -> Path:
    """`train/ val/ test/`, a folder per class, four different pictures in each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in CLASSES:
            home = folder / split / name
            home.mkdir(parents=True, exist_ok=True)
            for number in range(4):
                picture = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                if not (path := home / f"{number}.png").exists():
                    Image.fromarray(picture).save(path)
    return folder


def _arrays(path: Path) -> Path:
    """`x_train y_train x_test y_test`, as Keras has them."""
    rng = np.random.default_rng(0)
    sizes = {"train": 12, "test": 6}
    arrays: dict[str, Any] = {
        f"x_{split}": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        for split, n in sizes.items()
    }
    labels: dict[str, Any] = {
        f"y_{split}": np.arange(n) % len(CLASSES) for split, n in sizes.items()
    }
    if not path.exists():
        np.savez(path, **arrays, **labels)
    return path


def _run(folder: Path, leaves: Mapping[str, np.ndarray]) -> Path:
    """What a run leaves of its model."""

    from tlx import registry
    from tlx.contracts.input import ports_of
    from tlx.run_folder.model_folder import save_model
    from tlx.types import Variables

    tree = nested({name: leaf for name, leaf in leaves.items() if name != FOREIGN})
    save_model(
        folder / "model",
        backbone=_Named("sample"),
        head=_Named("sample"),
        ports=ports_of(registry.build("inputs", "image", {"canvas": (32, 32)})),
        fields={"image": registry.build("fields", "image")},
        classes=CLASSES,
        variables=Variables(tree["params"], {"head": {}, **tree["state"]}),
    )
    return folder


def _weight_files(folder: Path) -> Iterator[Path]:
    """The same leaves as safetensors, as npz, and in a run folder."""
    from safetensors.numpy import save_file

    leaves = weights()
    save_file(leaves, folder / "weights.safetensors")
    yield folder / "weights.safetensors"
    np.savez(folder / "weights.npz", **leaves)
    yield folder / "weights.npz"
    yield _run(folder / "run", leaves)
