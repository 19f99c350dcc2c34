"""Whether this installation works, and what it is made of.

What a person would ask first who is told that tlx does not run: versions, devices, how much lies
in the caches, which plugins are broken, and whether a few seconds of training end as they should.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import registry, study
from tlx.errors import TlxError
from tlx.files.cache_folder import cache_folder
from tlx.reporting import describe
from tlx.testing import toys
from tlx.weights.saved import load

SHADES = {"dark": 40, "middle": 120, "light": 200}
"""Three classes that a network of two layers tells apart after a few steps."""


class Diagnosis(NamedTuple):
    """`versions` by distribution; `devices` in words; `caches` folder -> (files, bytes) and how
    many bytes are free there; `broken` plugins with reasons; `test` is empty where the self-test
    ended well, else what went wrong; its seconds."""

    versions: Mapping[str, str]
    devices: tuple[str, ...]
    caches: Mapping[str, tuple[int, int]]
    free: int
    broken: tuple[str, ...]
    test: str
    seconds: float

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.broken and not self.test


def diagnosed() -> Diagnosis:
    """Look at everything, then train for a few seconds in a folder that is removed again."""
    begun = time.perf_counter()
    test = self_test()
    seconds = time.perf_counter() - begun
    broken = tuple(why for _, why in registry.status(None, imported=True) if why)
    broken += registry.damage()
    return Diagnosis(
        describe.versions() | {"system": platform.platform()},
        tuple(_device(each) for each in jax.devices()),
        {str(place): _size(place) for place in _caches()},
        shutil.disk_usage(_there(cache_folder())).free,
        broken,
        test,
        seconds,
    )


def self_test() -> str:
    """Train a toy on three shades of grey, load what it left and predict. Returns an empty text,
    or what is wrong."""
    rng = np.random.default_rng(0)
    label = np.arange(90) % 3
    shade = np.asarray(list(SHADES.values()))[label][:, None, None, None]
    image = (shade + rng.integers(-30, 31, (90, 8, 8, 3))).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name, open(os.devnull, "w") as nowhere:
        here = Path(name)
        np.savez(
            here / "shades.npz", x_train=image[:60], y_train=label[:60], x_test=image[60:],
            y_test=label[60:], class_names=np.array(list(SHADES)),
        )  # fmt: skip
        table = {
            "name": "doctor", "steps": 60, "batch_size": 20, "sink": [],
            "data": {"name": "npz", "path": str(here / "shades.npz"), "val": 15, "check": 0},
            "backbone": f"{toys.__file__}:ToyBackbone", "strategy": "finetune",
            "optimizer": {"name": "adam", "learning_rate": 0.02},
        }  # fmt: skip
        try:
            with redirect_stdout(nowhere):
                found = study.run(table, out=here / "run")
                said = load(here / "run").predict(image[60:])
        except TlxError as error:
            return str(error)
        except Exception as error:  # whatever jax or a plugin raises is the finding
            return f"{type(error).__name__}: {error}"
    accuracy = found["test"]["accuracy"]
    names = np.asarray(list(SHADES))[label[60:]]
    again = np.mean([row["class"] == name for row, name in zip(said, names, strict=True)])
    if accuracy < 0.9:
        return f"A toy that should learn three shades of grey reached {100 * accuracy:.0f} % only."
    if abs(again - accuracy) > 1e-6:
        return f"The saved toy is right in {100 * again:.0f} %, tested in {100 * accuracy:.0f} %."
    return ""


def lines(found: Diagnosis) -> list[str]:
    """For people."""
    rows = [f"{name:16}{version}" for name, version in found.versions.items()]
    rows += [f"{'device':16}{device}" for device in found.devices]
    for place, (files, size) in found.caches.items():
        rows.append(f"{'cache':16}{place}: {files:,} files, {size / 2**20:,.1f} MB")
    rows.append(f"{'':16}{found.free / 2**30:,.1f} GB are free there")
    rows += [f"{'broken plugin':16}{why}" for why in found.broken]
    outcome = found.test or f"a toy was trained, saved and loaded in {found.seconds:.1f} s"
    return [*rows, f"{'self-test':16}{outcome}"]


def _device(device: Any) -> str:
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    memory = f", {limit / 2**30:.1f} GB for jax" if limit else ""
    return f"{device.platform} {device.id} ({device.device_kind}{memory})"


def _caches() -> list[Path]:
    """The folders in the user's cache, and jax's own where that lies elsewhere."""
    own = cache_folder()
    found = sorted(p for p in own.iterdir() if p.is_dir()) if own.is_dir() else []
    compiled = Path(jax.config.values["jax_compilation_cache_dir"] or own / "compiled")
    return found if compiled in found else [*found, compiled]


def _size(place: Path) -> tuple[int, int]:
    files = [p.stat().st_size for p in place.rglob("*") if p.is_file()] if place.is_dir() else []
    return len(files), sum(files)


def _there(place: Path) -> Path:
    """The nearest folder above that exists."""
    return place if place.exists() else _there(place.parent)
