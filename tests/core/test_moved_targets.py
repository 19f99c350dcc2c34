"""Masks and boxes follow their image onto the canvas, through augmentations, caches and back."""

import jax
import numpy as np
import optax
import pytest
from tlx_image import ImageInput, Mask

import tlx
from tlx import config
from tlx.assemble import assemble
from tlx.data.collate import Collate, Entry
from tlx.data.moved_targets import spatial_targets
from tlx.data.splits import Subset
from tlx.errors import ConfigError, DataError
from tlx.feeding.frozen_tables import order_of
from tlx.objective import augmented
from tlx.registry import build
from tlx.weights.saved import load

PLUGIN = '''
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from tlx_image import Boxes, Image, ImageInput, Mask

from tlx.types import DataInfo, FeatureSpec, LeafInfo, Variables

MASK = Mask(("rest", "square"))
SIDES = ((16, 16), (20, 24), (30, 18))


class Rows:
    """A bright square left of the middle, where it is, and the box around it."""

    def __init__(self, alike):
        self.alike = alike

    def __len__(self):
        return 20

    def __getitem__(self, index):
        height, width = (16, 16) if self.alike else SIDES[index % 3]
        top, left = height // 2 - index % 3, width // 2 - 6 + index % 2
        mask = np.zeros((height, width), np.uint8)
        mask[top : top + 5, left : left + 5] = 1
        image = (40 + 200 * mask[..., None]).astype(np.uint8).repeat(3, -1)
        return {"image": image, "mask": mask, "boxes": [[top, left, top + 5, left + 5, "square"]]}


@dataclass(frozen=True)
class Scenes:
    alike: bool = True

    @property
    def info(self):
        fields = {
            "image": Image((16, 16, 3) if self.alike else None),
            "mask": MASK,
            "boxes": Boxes(("square",), most=2),
        }
        return DataInfo("scenes", fields, {"train": 20}, "f", targets=("mask", "boxes"))

    def split(self, name):
        return Rows(self.alike)


@dataclass(frozen=True)
class Body:
    """The pixels as they are, and a sum of them."""

    inputs = ImageInput(size=(16, 16))
    modes = frozenset({"train", "tune", "eval"})
    features = (FeatureSpec("map", "map", 3), )

    def leaf(self, path):
        return LeafInfo("all", "kernel")

    def init(self, rng, x):
        return Variables({"kernel": jnp.eye(3)}, {})

    def apply(self, params, state, x, *, rng, mode):
        return {"map": x @ params["kernel"]}, state


@dataclass(frozen=True)
class PerPixel:
    classes: int = 2
    needs = ("map",)
    selection = ("loss", "min")

    def init(self, rng, features):
        return Variables({"kernel": jnp.zeros(3), "bias": jnp.zeros(())}, {})

    def apply(self, params, state, features, *, inputs, rng, mode):
        return features["map"] @ params["kernel"] + params["bias"], state

    def loss(self, outputs, batch):
        known = batch.targets["mask"] != 255
        error = jnp.square(outputs - (batch.targets["mask"] == 1)) * known
        return error.sum((1, 2)) / known.sum((1, 2))

    def predict(self, outputs):
        mask = (outputs > 0.5).astype(jnp.int32)
        rows, columns = mask.any(2), mask.any(1)
        side = outputs.shape[1]
        edges = [rows.argmax(1), columns.argmax(1)]
        edges += [side - rows[:, ::-1].argmax(1), side - columns[:, ::-1].argmax(1)]
        return {"mask": mask, "boxes": jnp.stack(edges, -1)[:, None].astype(jnp.float32)}

    def measure(self, outputs, batch):
        weight = batch.weight
        return {"n": weight.sum(), "loss": (weight * self.loss(outputs, batch)).sum()}

    def report(self, totals):
        return {"loss": float(totals["loss"]) / float(totals["n"])}


@dataclass(frozen=True)
class Turned:
    """Moves what is in an image, and says nothing."""

    def __call__(self, rng, image):
        return jnp.where(jax.random.bernoulli(rng), image[::-1], image)
'''


@pytest.fixture
def scenes(tiny, tmp_path):
    """The table of a run on masks and boxes; `table(*augmentations, **changes)`."""
    plugin = tmp_path / "scenes.py"
    plugin.write_text(PLUGIN)

    def table(*augmentations, alike=True, **changes):
        named = [f"{plugin}:{name}" if name == "Turned" else name for name in augmentations]
        own = {
            "data": {"name": f"{plugin}:Scenes", "alike": alike},
            "backbone": f"{plugin}:Body",
            "head": f"{plugin}:PerPixel",
            "augmentation": named,
        }
        return tiny(**own | changes)

    return table


def in_step(image, mask, boxes):
    """Bright pixels (B,16,16,3), the mask and the one box of each example are at one place."""
    np.testing.assert_array_equal(image[..., 0] > 0.5, mask == 1)
    for own, box, there in zip(mask, boxes["box"], boxes["there"], strict=True):
        rows, columns = np.nonzero(own == 1)
        assert there.tolist() == [len(rows) > 0, False]
        if len(rows):
            edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
            np.testing.assert_array_equal(box[0], edges)


def test_several_changes_move_an_image_and_its_targets_alike(scenes):
    experiment = assemble(config.parse(scenes()))
    subset, weight = experiment.splits.train, np.ones(len(experiment.splits.train), np.float32)
    batch = experiment.collate(subset, np.arange(len(subset)), weight)
    assert batch.geometry.matrix.shape == (len(subset), 2, 3)
    names = ("flip", "crop", "color_jitter", "flip", "crop")
    changes = tuple(build("augmentations", name) for name in names)
    spatial = spatial_targets(experiment.info)
    ports = experiment.model.ports
    fed = jax.jit(lambda b, k: augmented(changes, b, k, ports, spatial))(batch, jax.random.key(3))
    image, mask, boxes = fed.inputs["image"], fed.targets["mask"], fed.targets["boxes"]
    assert (np.asarray(mask) != batch.targets["mask"]).any((1, 2)).all()
    assert (np.asarray(mask) == 255).any()  # what entered has no class
    image, mask, boxes = jax.device_get((image, mask, boxes))
    in_step(image, mask, boxes)
    # An image alone is augmented by the same numbers.
    alone = augmented(changes, batch._replace(targets={}, geometry=None), jax.random.key(3), ports)
    np.testing.assert_allclose(alone.inputs["image"], image, atol=1e-6)


def test_targets_follow_onto_the_canvas(scenes):
    experiment = assemble(config.parse(scenes(alike=False)))
    subset = experiment.splits.train
    batch = experiment.collate(subset, np.arange(6), np.ones(6, np.float32))
    image, mask = batch.inputs["image"] / 255, batch.targets["mask"]
    assert image.shape[1:3] == mask.shape[1:3] == (16, 16)
    sure = (image[..., 0] > 0.9) | (image[..., 0] < 0.2)
    np.testing.assert_array_equal(mask[sure] == 1, image[sure][..., 0] > 0.5)
    originals = {tuple(size) for size in batch.geometry.size.tolist()}
    assert originals <= {(16, 16), (20, 24), (30, 18)}
    assert len(originals) > 1


@pytest.mark.parametrize("views", [0, 3])
def test_what_is_kept_of_a_frozen_network_has_its_own_targets(scenes, views):
    """Views of an image that are computed once keep the targets that moved with them."""
    kept = {"augmentation": ["flip", "crop"], "cache_views": views} if views else {}
    experiment = assemble(config.parse(scenes(strategy="feature_transfer", **kept)))
    (planned,) = experiment.phases
    order = order_of(
        experiment, planned, experiment.variables, experiment.splits.train, True, augment=True
    )
    parts = list(order.parts())
    assert len(parts) == max(views, 1)
    for part in parts:
        in_step(part.frozen.features["map"], part.targets["mask"], part.targets["boxes"])
        assert (part.geometry is None) == bool(views)
    if views:
        assert (parts[0].targets["mask"] != parts[1].targets["mask"]).any()


def test_a_saved_model_gives_masks_and_boxes_in_the_pixels_of_the_image(scenes, tmp_path):
    table = scenes("flip", "crop", alike=False, steps=60, out=str(tmp_path / "run"))
    table["optimizer"] = {"name": "adam", "learning_rate": 0.1}
    tlx.run(config.parse(table))
    model = load(tmp_path / "run")
    assert set(model.targets) == {"mask", "boxes"}
    rows = build("datasets", f"{tmp_path / 'scenes.py'}:Scenes", {"alike": False}).split("train")
    images = [rows[n]["image"] for n in range(6)]
    for number, said in enumerate(model.predict(images)):
        mask = rows[number]["mask"]
        assert said["mask"].shape == mask.shape
        seen = said["mask"] != 255
        wrong = (said["mask"] != mask) & seen
        assert wrong.sum() <= 24  # at the edge, one pixel of the canvas is two of the image
        (box,) = said["boxes"]
        np.testing.assert_allclose(box, rows[number]["boxes"][0][:4], atol=2.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["Turned"], r"may move .* does not say how, .* by `draw`"),
        (["flip", "rand_augment"], r"'rand_augment' may move"),
        (["mixup"], r"'mixup' makes one picture of two, and there is no mask of two"),
        (["cutmix"], r"'cutmix' makes one picture of two"),
    ],
)
def test_what_a_target_cannot_follow_is_refused(scenes, changes, says):
    with pytest.raises(ConfigError, match=says):
        assemble(config.parse(scenes(*changes)))


def test_images_on_two_canvases_are_refused():
    class Rows:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            image = np.zeros((8, 8, 3), np.uint8)
            return {"left": image, "right": image, "mask": np.zeros((8, 8), np.uint8)}

    subset, ones = Subset(Rows(), np.arange(1)), np.ones(1, np.float32)

    def collated(*sizes, mask=None):
        inputs = zip(("left", "right"), sizes, strict=False)
        entries = [Entry(name, (name,), ImageInput(canvas=size)) for name, size in inputs]
        return Collate(tuple(entries), (("mask", Mask(("a",))),))(subset, np.arange(1), ones)

    assert collated((4, 4), (4, 4)).targets["mask"].shape == (1, 4, 4)
    with pytest.raises(DataError, match=r"The left and the right of example 0 .* follow both"):
        collated((4, 4), (6, 6))


def test_a_naive_loop_flips_the_picture_and_not_its_mask(scenes):
    """The trap: the same network, the same steps, and a loop that augments pictures alone."""
    experiment = assemble(config.parse(scenes("flip")))
    subset = experiment.splits.train
    batch = experiment.collate(subset, np.arange(len(subset)), np.ones(len(subset), np.float32))
    model, optimizer = experiment.model, optax.adam(0.1)
    changes, ports = experiment.augmentations, model.ports

    def error(params, seen):
        variables = experiment.variables._replace(params=params)
        return model.apply(variables, seen, rng=jax.random.key(0), mode="eval").loss.mean()

    def trained(spatial):
        @jax.jit
        def step(params, state, key):
            seen = augmented(changes, batch, key, ports, spatial)
            loss, slope = jax.value_and_grad(error)(params, seen)
            updates, state = optimizer.update(slope, state)
            return optax.apply_updates(params, updates), state, loss

        params = experiment.variables.params
        state = optimizer.init(params)
        for number in range(60):
            params, state, _ = step(params, state, jax.random.key(number))
        return float(error(params, batch))

    naive = trained(())
    own = trained(experiment.objective(experiment.phases[0]).spatial)
    assert own < 0.01
    assert naive > 10 * own
