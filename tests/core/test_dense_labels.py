"""A label of every pixel beside what may move pixels: refused, unless nothing is known to move."""

import jax
import numpy as np
import pytest
from tlx_image import ImageInput

from tlx import config
from tlx.assemble import assemble
from tlx.contracts.input import ports_of
from tlx.errors import ConfigError
from tlx.objective import augmented
from tlx.registry import build
from tlx.types import unlabelled

PORTS = ports_of(ImageInput())

PLUGIN = '''
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from tlx import registry
from tlx.types import Variables
from tlx_data.image_info import image_info

class Rows:
    """A bright square somewhere, and where it is."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        mask = np.zeros((8, 8), np.float32)
        mask[1:4, index % 5 : index % 5 + 2] = 1
        return {"image": (200 * mask[..., None]).astype(np.uint8).repeat(3, -1), "label": mask}


@dataclass(frozen=True)
class Scenes:
    alike: bool = True

    @property
    def info(self):
        shape = (8, 8, 3) if self.alike else None
        return image_info("scenes", shape, (), {"train": 20}, "f")

    def split(self, name):
        return Rows()


@dataclass(frozen=True)
class PerPixel:
    needs = ("stage1",)
    selection = ("loss", "min")

    def init(self, rng, features):
        return Variables({"kernel": jnp.ones(features["stage1"].shape[-1])}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        return features["stage1"] @ params["kernel"], state

    def loss(self, outputs, batch):
        return jnp.square(outputs - batch.targets["label"]).mean((1, 2))

    def predict(self, outputs):
        return {"mask": outputs}

    def measure(self, outputs, batch):
        weight = batch.weight
        return {"n": weight.sum(), "loss": (weight * self.loss(outputs, batch)).sum()}

    def report(self, totals):
        return {"loss": float(totals["loss"]) / float(totals["n"])}


@dataclass(frozen=True)
class Darker:
    """Moves nothing, and does not say so."""

    def __call__(self, rng, image):
        return image * 0.5


@dataclass(frozen=True)
class Mirrored:
    """Fine-tuning on mirrored pictures."""

    def __post_init__(self):
        object.__setattr__(self, "own", registry.build("strategies", "finetune"))

    def init(self, rng, model, batch):
        return self.own.init(rng, model, batch)

    def phases(self, model, steps):
        (phase,) = self.own.phases(model, steps)

        def forward(model, variables, batch, constants, **how):
            seen = batch._replace(inputs={"image": batch.inputs["image"][:, :, ::-1]})
            return phase.forward(model, variables, seen, constants, **how)

        return (replace(phase, forward=forward),)
'''


@pytest.fixture
def scenes(tiny, tmp_path):
    """The table of a run on masks; `table(*augmentations, **changes)`."""
    plugin = tmp_path / "scenes.py"
    plugin.write_text(PLUGIN)

    def table(*augmentations, **changes):
        named = [f"{plugin}:{name}" if name == "Darker" else name for name in augmentations]
        own = {"data": {"name": f"{plugin}:Scenes"}, "head": f"{plugin}:PerPixel"}
        if "strategy" in changes:
            changes["strategy"] = f"{plugin}:{changes['strategy']}"
        return config.parse(tiny(**own | {"augmentation": named} | changes))

    return table


def test_a_mirrored_picture_and_its_mask_where_it_was(scenes):
    """What a naive loop trains on: to the best answer there is, the mask is wrong."""
    experiment = assemble(scenes())
    few = [experiment.splits.train[n] for n in range(5)]
    image, mask = (np.stack([example[name] for example in few]) for name in ("image", "label"))
    flip = (build("augmentations", "flip", {"probability": 1.0}),)
    fed = augmented(flip, unlabelled({"image": image}), jax.random.key(0), PORTS)
    seen = np.asarray(fed.inputs["image"][..., 0] > 0.5)
    assert ((image[..., 0] > 100) == mask).all()
    assert (seen & (mask > 0)).sum() < 0.5 * mask.sum()
    with pytest.raises(ConfigError, match=r"'flip' may move .* does not move the target"):
        assemble(scenes("flip"))


@pytest.mark.parametrize("name", ["crop", "resized_crop", "rand_augment", "cutmix", "Darker"])
def test_what_moves_or_says_nothing_is_refused(scenes, name):
    with pytest.raises(ConfigError, match=f"{name}.* may move"):
        assemble(scenes(name))


def test_what_keeps_places_is_not(scenes):
    kept = ("color_jitter", "grayscale", "solarize", "random_erasing", "mixup")
    assert assemble(scenes(*kept)).augmentations
    with pytest.raises(ConfigError, match="augmentations 'flip', 'crop' may move"):
        assemble(scenes("flip", "color_jitter", "crop"))


def test_pictures_that_are_brought_to_another_size(scenes):
    table = scenes()
    data = {"name": table.data.name, "alike": False}
    with pytest.raises(ConfigError, match=r"brought to one and cropped"):
        assemble(scenes(data=data))


def test_a_strategy_that_feeds_views(scenes):
    with pytest.raises(ConfigError, match=r"feeds other pictures than those of the batch"):
        assemble(scenes(strategy="Mirrored"))


def test_labels_of_whole_pictures_go_with_any_change(tiny):
    assert len(assemble(config.parse(tiny(augmentation=["flip", "crop"]))).augmentations) == 2
