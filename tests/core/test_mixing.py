"""Mixed pictures and two labels: against PyTorch's losses for soft labels, and who is mixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from tlx_image import ImageInput

from tlx.contracts.input import ports_of
from tlx.data import mixing
from tlx.model import Model
from tlx.objective import Objective, augmented
from tlx.registry import build
from tlx.testing.toys import ToyBackbone
from tlx.types import Batch, Constants, Mixed

PORTS = ports_of(ImageInput())
COUNT = 8
KEY = jax.random.key(5)
NOTHING = Constants({}, {}, {}, {"divergence": {}})


def batch_of(label):
    image = jax.random.randint(jax.random.key(1), (COUNT, 8, 8, 3), 0, 256).astype(jnp.uint8)
    weight = jnp.ones(COUNT).at[-2:].set(0)
    index = jnp.arange(COUNT)
    return Batch({"image": image}, {"label": label}, index, weight)


@pytest.fixture(scope="module")
def batch():
    """Every label occurs once, so that it tells the example; the last two are padding."""
    return batch_of(jnp.arange(COUNT))


def model_of(head, **options):
    backbone = ToyBackbone()
    return Model(backbone, build("heads", head, options), backbone.inputs)


def mix(name="mixup", **options):
    return build("augmentations", name, options)


class Spy:
    """A supervised forward pass in mode 'eval' that remembers what it was given and gave."""

    def __call__(self, model, variables, batch, constants, *, rng, mode, progress):
        self.batch = batch
        self.forward = model.apply(variables, batch, rng=rng, mode="eval")
        return self.forward


def trained(model, batch, *augmentations):
    """(loss, metrics, spy) of one training batch."""
    spy = Spy()
    objective = Objective(model, spy, augmentations=augmentations)
    variables = model.init(jax.random.key(0), batch)
    loss, (_, metrics) = objective(
        *variables, batch, NOTHING, rng=KEY, progress=jnp.float32(0), mode="train"
    )
    return loss, metrics, spy


def soft(batch, classes):
    """The mixed labels (B,classes), of labels (B,) or (B,classes)."""
    label, other = (np.asarray(of["label"]) for of in (batch.targets, batch.mixed.targets))
    if label.ndim == 1:
        label, other = np.eye(classes)[label], np.eye(classes)[other]
    share = np.asarray(batch.mixed.share)[:, None]
    return torch.tensor(share * label + (1 - share) * other)


def weighted(each, batch):
    weight = torch.tensor(np.asarray(batch.weight))
    return float((each * weight).sum() / weight.sum())


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_that_of_the_mixed_label(batch, name, smoothing):
    model = model_of("softmax", classes=COUNT, label_smoothing=smoothing)
    loss, metrics, spy = trained(model, batch, mix(name, alpha=1.0))
    logits = torch.tensor(np.asarray(spy.forward.outputs))
    each = torch.nn.functional.cross_entropy(
        logits, soft(spy.batch, COUNT), reduction="none", label_smoothing=smoothing
    )
    np.testing.assert_allclose(spy.forward.loss, each, rtol=1e-5)
    assert float(loss) == pytest.approx(weighted(each, batch), rel=1e-5)
    assert metrics["task"] == loss


def test_binary_cross_entropy_is_that_of_the_mixed_labels():
    batch = batch_of(jax.random.randint(jax.random.key(2), (COUNT, 5), 0, 2))
    loss, _, spy = trained(model_of("multilabel", classes=5), batch, mix(alpha=1.0))
    logits = torch.tensor(np.asarray(spy.forward.outputs))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.double(), soft(spy.batch, 5), reduction="none"
    ).mean(-1)
    np.testing.assert_allclose(spy.forward.loss, each, rtol=1e-5)
    assert float(loss) == pytest.approx(weighted(each, batch), rel=1e-5)


def test_squared_error_has_the_gradient_of_the_mixed_number():
    batch = batch_of(jax.random.normal(jax.random.key(2), (COUNT, 2)))
    head = build("heads", "regression", {"outputs": 2})
    _, _, spy = trained(model_of("regression", outputs=2), batch, mix(alpha=1.0))
    outputs, label = spy.forward.outputs, jnp.asarray(soft(spy.batch, 2).numpy())
    seen = jax.grad(lambda outputs: mixing.loss(head, outputs, spy.batch).sum())(outputs)
    expected = jax.grad(lambda outputs: jnp.square(outputs - label).mean(-1).sum())(outputs)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_share_of_1_changes_neither_loss_nor_gradient(batch, name):
    model = model_of("softmax", classes=COUNT)
    variables = model.init(jax.random.key(0), batch)

    def slope(*augmentations):
        objective = Objective(model, Spy(), augmentations=augmentations)

        def loss(params):
            arguments = params, variables.state, batch, NOTHING
            return objective(*arguments, rng=KEY, progress=jnp.float32(0), mode="train")[0]

        return jax.value_and_grad(loss)(variables.params)

    mixed, plain = slope(mix(name, probability=0.0)), slope()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), mixed, plain)


def test_pictures_are_those_that_numpy_mixes(batch):
    seen = augmented((mix(alpha=1.0),), batch, KEY, PORTS)
    image, share = np.asarray(batch.inputs["image"], np.float32) / 255, np.asarray(seen.mixed.share)
    partner = np.asarray(seen.mixed.targets["label"])  # its label tells which it is
    part = share[:, None, None, None]
    wanted = part * image + (1 - part) * image[partner]
    np.testing.assert_allclose(seen.inputs["image"], wanted, atol=1e-6)
    assert len(set(share)) == COUNT, "each has a share of its own"
    own = seen._replace(inputs=batch.inputs, mixed=None)
    jax.tree.map(np.testing.assert_array_equal, own, batch)


def test_partners_are_others_that_count_each_as_often():
    weight = jnp.asarray([1.0, 0, 1, 1, 0.5, 0])
    keys = jax.random.split(jax.random.key(0), 3000)
    seen = np.asarray(jax.vmap(mixing.partners, (0, None))(keys, weight))
    real = [0, 2, 3, 4]
    assert (seen[:, [1, 5]] == [1, 5]).all(), "padding has itself"
    for one in real:
        others = [n for n in real if n != one]
        counts = np.asarray([(seen[:, one] == n).sum() for n in others])
        assert counts.sum() == 3000
        # chi-square with 2 degrees of freedom: 13.8 is passed once in a thousand times by chance.
        assert ((counts - 1000) ** 2 / 1000).sum() < 13.8
    assert (np.sort(seen, 1) == np.arange(6)).all(), "each picture is used as often as any other"


def test_one_that_is_alone_has_itself():
    for weight in ([0.0, 1.0, 0.0], [0.0, 0.0, 0.0]):
        np.testing.assert_array_equal(mixing.partners(KEY, jnp.asarray(weight)), [0, 1, 2])


def test_what_padding_looks_like_moves_nothing(batch):
    model = model_of("softmax", classes=COUNT)
    other = batch._replace(
        inputs={"image": batch.inputs["image"].at[-2:].set(255)},
        targets={"label": batch.targets["label"].at[-2:].set(-1)},
    )
    one, two = (trained(model, b, mix(alpha=1.0))[0] for b in (batch, other))
    assert np.isfinite(one)
    assert one == two


def test_accuracy_goes_by_the_label_that_counts_more(batch):
    model = model_of("softmax", classes=COUNT)
    _, metrics, spy = trained(model, batch, mix(alpha=1.0))
    answer = np.asarray(spy.forward.outputs).argmax(-1)
    wanted = soft(spy.batch, COUNT).numpy().argmax(-1)
    right = (answer == wanted) * np.asarray(batch.weight)
    assert float(metrics["measure"]["n"]) == 6
    assert float(metrics["measure"]["correct"]) == right.sum()
    others = Mixed({"label": 1 - jnp.eye(2)}, jnp.asarray([0.4, 0.6]))
    rows = Batch({}, {"label": jnp.eye(2)}, jnp.arange(2), jnp.ones(2), mixed=others)
    found = mixing.judged(rows).targets["label"]
    np.testing.assert_array_equal(found, [[0, 1], [0, 1]])


def test_pictures_of_a_domain_are_mixed_among_themselves(batch):
    domain = batch._replace(targets={})
    seen = augmented((mix(alpha=1.0),), batch._replace(domain=domain), KEY, PORTS)
    assert seen.domain.mixed.targets == {}
    assert not np.allclose(seen.domain.inputs["image"][:6], batch.inputs["image"][:6] / 255)
    assert not np.array_equal(seen.domain.mixed.share, seen.mixed.share)


def test_evaluation_mixes_nothing(batch):
    model, spy = model_of("softmax", classes=COUNT), Spy()
    objective = Objective(model, spy, augmentations=(mix(),))
    variables = model.init(jax.random.key(0), batch)
    objective(*variables, batch, NOTHING, rng=KEY, progress=jnp.float32(0), mode="eval")
    assert spy.batch.mixed is None
