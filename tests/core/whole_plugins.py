"""Small plugins that are right, one of each kind, as texts: `fuzz_plugins` edits them.

They are written as a person writes a first plugin: for pictures of 8 by 8, with a parameter, a
state, an option, and every optional part of their contract that fits into a few lines.
"""

FUNCTIONS = """
from tlx_data.image_info import image_info
import jax, jax.numpy as jnp
from tlx.backbones.functions import wrap_functions
from tlx_image import ImageInput

def init(rng, x, width):
    kernel = jax.random.normal(rng, (x.shape[3], width))
    return {"layer": {"kernel": kernel, "bias": jnp.zeros(width)}}, {"mean": jnp.zeros(width)}

def apply(params, state, x, rng, mode):
    y = x @ params["layer"]["kernel"] + params["layer"]["bias"]
    mean = y.mean((0, 1, 2))
    if mode == "train":
        state = {"mean": 0.9 * state["mean"] + 0.1 * mean}
    else:
        mean = state["mean"]
    y = y - mean
    return {"map": y, "pooled": y.mean((1, 2))}, state

def net(width: int = 4):
    inputs = ImageInput(size=(8, 8))
    return wrap_functions(init, apply, ("map", "pooled"), inputs, options={"width": width})
"""
BACKBONE = """
import jax, jax.numpy as jnp
from dataclasses import dataclass
from tlx.types import FeatureSpec, LeafInfo, Variables
from tlx_image import ImageInput

@dataclass(frozen=True)
class Net:
    width: int = 4

    @property
    def inputs(self):
        return ImageInput(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

    @property
    def features(self):
        width = self.width
        return (FeatureSpec("map", "map", width, 1), FeatureSpec("pooled", "vector", width))

    @property
    def modes(self):
        return frozenset({"train", "tune", "eval"})

    def leaf(self, path):
        return LeafInfo("all", "bias" if path.endswith("bias") else "kernel")

    def init(self, rng, x):
        kernel = jax.random.normal(rng, (x.shape[-1], self.width))
        return Variables({"kernel": kernel, "bias": jnp.zeros(self.width)}, {})

    def apply(self, params, state, x, *, rng, mode):
        y = x @ params["kernel"] + params["bias"]
        return {"map": y, "pooled": y.mean((1, 2))}, state
"""
HEAD = """
import jax, jax.numpy as jnp
from dataclasses import dataclass
from tlx.types import Variables

@dataclass(frozen=True)
class Head:
    classes: int = 10

    @property
    def needs(self):
        return ("pooled",)

    @property
    def selection(self):
        return ("accuracy", "max")

    def init(self, rng, features):
        shape = (features["pooled"].shape[-1], self.classes)
        return Variables({"kernel": 0.1 * jax.random.normal(rng, shape)}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        return features["pooled"] @ params["kernel"], state

    def loss(self, outputs, batch):
        likely = jax.nn.log_softmax(outputs)
        return -jnp.take_along_axis(likely, batch.targets["label"][:, None], 1)[:, 0]

    def predict(self, outputs):
        return {"class": outputs.argmax(-1), "probability": jax.nn.softmax(outputs)}

    def measure(self, outputs, batch):
        right = (outputs.argmax(-1) == batch.targets["label"]) * batch.weight
        return {"right": right.sum(), "count": batch.weight.sum()}

    def report(self, totals):
        return {"accuracy": float(totals["right"]) / float(totals["count"])}
"""
DIVERGENCE = """
import jax, jax.numpy as jnp
from dataclasses import dataclass
from tlx.types import Variables

@dataclass(frozen=True)
class Divergence:
    power: float = 2.0

    def init(self, *, model, source, batch, rng):
        return Variables({"scale": jnp.ones(())}, {})

    def prepare(self, *, model, variables, source, batches, rng):
        sums = [batch.weight.sum() for batch in batches]
        return {"mean": jnp.zeros(()), "count": jnp.asarray(sums).sum()}

    def __call__(self, *, features, prepared, own):
        apart = features["pooled"] - prepared["mean"]
        return own["scale"] * (jnp.abs(apart) ** self.power).mean()
"""
STRATEGY = """
import jax, jax.numpy as jnp
from dataclasses import dataclass
from tlx.protocols import Phase
from tlx.types import Variables

def group(path):
    return "frozen" if path.startswith("backbone/") else path.split("/")[0]

def forward(model, variables, batch, constants, *, rng, mode, progress):
    return model.apply(variables, batch, rng=rng, mode=mode)

@dataclass(frozen=True)
class Strategy:
    rate: float = 2.0

    def init(self, rng, model, batch):
        return Variables({"extra": jnp.zeros(3)}, {})

    def effective(self, params):
        factor = 1.0 + params["strategy"]["extra"][0]
        backbone = jax.tree.map(lambda p: p * factor, params["backbone"])
        return {**params, "backbone": backbone}

    def phases(self, model, steps):
        rate = {"head": self.rate}
        return (Phase(name="one", steps=steps, group=group, forward=forward, lr=rate),)
"""
AUGMENTATION = """
import jax, jax.numpy as jnp
from dataclasses import dataclass

@dataclass(frozen=True)
class Augmentation:
    amount: float = 0.1

    def __call__(self, rng, image):
        shift = self.amount * jax.random.normal(rng, (1, 1, 3))
        return jnp.clip(image + shift, 0.0, 1.0)
"""
DATA = """
import numpy as np
from dataclasses import dataclass
from tlx_data.image_info import image_info

class Split:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        return {"image": image, "label": index % 3}

    @property
    def labels(self):
        return np.arange(self.count) % 3

@dataclass(frozen=True)
class Data:
    count: int = 24

    @property
    def info(self):
        splits = {"train": self.count, "val": 9, "test": 9}
        return image_info("made", (8, 8, 3), ("a", "b", "c"), splits, "v1")

    def split(self, name):
        return Split(self.info.splits[name])
"""
SINK = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Sink:
    every: int = 1

    def emit(self, event):
        if event.kind == "train":
            print(event.step, event.data["loss"])

    def close(self):
        return None
"""
WEIGHTS = """
import numpy as np
from dataclasses import dataclass
from tlx.types import Tensors
from tlx_image import ImageInput

@dataclass(frozen=True)
class Source:
    seed: int = 0

    @property
    def input(self):
        return ImageInput(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

    @property
    def classes(self):
        return ("a", "b", "c")

    def tensors(self):
        rng = np.random.default_rng(self.seed)
        values = {"layer/kernel": rng.normal(size=(3, 4)), "layer/bias": np.zeros(4)}
        values["mean"] = np.zeros(4)
        return Tensors(values, "made", "0" * 64)
"""
