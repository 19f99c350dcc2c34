"""Batches as a pure function of data, seed and step."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest
from tlx_image import ImageInput
from tlx_image.decode import fit
from tlx_image.model_images import collate_images

from tlx.data.splits import Subset
from tlx.errors import DataError
from tlx.evaluate import evaluate
from tlx.stream import evaluation, order, training
from tlx.types import Batch, Variables

SMALL = collate_images((4, 4))


class Pictures:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index]}


def subset(n=10, size=4, dtype=np.uint8, of=None):
    of = of or 2 * n
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (of, size, size, 3), np.uint8)
    if dtype != np.uint8:
        images = (images / 255).astype(dtype)
    return Subset(Pictures(images, np.arange(of) % 3), rng.permutation(of)[:n])


def batches(data, count, **options):
    stream = training(data, SMALL, **{"batch_size": 4, "seed": 0, **options})
    first = list(itertools.islice(stream, count))
    stream.close()
    return first


def same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_batch_holds_what_its_index_says():
    data = subset()
    for batch in batches(data, 5):
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), batch) == Batch(
            inputs={"image": ((4, 4, 4, 3), "uint8")},
            targets={"label": ((4,), "int32")},
            index=((4,), "int32"),
            weight=((4,), "float32"),
        )
        np.testing.assert_array_equal(batch.inputs["image"], data.split.images[batch.index])
        np.testing.assert_array_equal(batch.targets["label"], batch.index % 3)
        assert (batch.weight == 1).all()


def test_every_epoch_sees_every_example_once_in_another_order():
    data = subset(10)
    seen = np.concatenate([b.index for b in batches(data, 10)])
    epochs = seen.reshape(4, 10)
    for epoch in epochs:
        assert sorted(epoch) == sorted(data.indices)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("n", [1, 3])
def test_a_subset_smaller_than_the_batch_wraps_inside_it(n):
    data = subset(n)
    seen = np.concatenate([b.index for b in batches(data, 3 * n, batch_size=8)])
    assert np.unique(seen, return_counts=True)[1].tolist() == [24] * n


@pytest.mark.parametrize("start", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 5])
def test_a_stream_from_a_step_on_is_the_rest_of_the_whole_one(start, threads):
    data = subset(10)
    same(batches(data, 12)[start:], batches(data, 12 - start, start=start, threads=threads))


def test_the_seed_decides_the_order_alone():
    data = subset(50)
    same(batches(data, 5), batches(data, 5))
    orders = [
        tuple(np.concatenate([b.index for b in batches(data, 25, batch_size=4, seed=seed)]))
        for seed in (0, 1, 2, 10**12)
    ]
    assert len(set(orders)) == 4
    # No run is another run that is an epoch ahead.
    assert not {order[:50] for order in orders} & {order[50:] for order in orders}


def test_positions_are_shuffled_evenly():
    (epochs,) = batches(subset(4), 1, batch_size=1600)
    first = epochs.index[::4]
    counts = np.unique(first, return_counts=True)[1]
    # chi-square with 3 degrees of freedom: 16.3 is passed once in a thousand times by chance.
    assert ((counts - 100) ** 2 / 100).sum() < 16.3


@pytest.mark.parametrize(("n", "count"), [(10, 3), (8, 2), (1, 1), (0, 0)])
def test_evaluation_sees_everything_once_and_pads_with_weight_zero(n, count):
    data = subset(n, of=30)
    seen = list(evaluation(data, SMALL, batch_size=4))
    assert len(seen) == count
    assert all(len(v) == 4 for batch in seen for v in jax.tree.leaves(batch))
    if n:
        index = np.concatenate([b.index for b in seen])
        weight = np.concatenate([b.weight for b in seen])
        np.testing.assert_array_equal(index[:n], data.indices)
        np.testing.assert_array_equal(weight, np.arange(len(weight)) < n)
        assert (index[n:] == data.indices[-1]).all()


def test_pictures_are_fitted_to_the_canvas():
    data = subset(4, size=9)
    (batch,) = evaluation(data, collate_images((6, 5), ImageInput(crop=0.875)), batch_size=4)
    for number, image in zip(batch.index, batch.inputs["image"], strict=True):
        np.testing.assert_array_equal(image, fit(data.split.images[number], (6, 5), 0.875))


def test_floats_stay_floats():
    data = subset(4, dtype=np.float64)
    (batch,) = evaluation(data, SMALL, batch_size=4)
    assert batch.inputs["image"].dtype == np.float32
    assert (batch.inputs["image"].min(), batch.inputs["image"].max()) >= (0, 0)
    np.testing.assert_allclose(batch.inputs["image"], data.split.images[data.indices], rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.linspace(0, 1, 6), "float32"),
        (np.eye(6, dtype=np.uint8), "int32"),
        (np.arange(6, dtype=np.uint8), "int32"),
        (np.arange(6) > 2, "float32"),
    ],
)
def test_labels_keep_their_shape_and_kind(labels, dtype):
    data = Subset(Pictures(np.zeros((6, 4, 4, 3), np.uint8), labels), np.arange(6))
    (batch,) = evaluation(data, SMALL, batch_size=6)
    assert batch.targets["label"].dtype == dtype
    np.testing.assert_allclose(batch.targets["label"], labels, rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 1), np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
    ],
)
def test_a_picture_of_another_kind_is_refused_by_number(image, said):
    data = Subset(Pictures([np.zeros((4, 4, 3), np.uint8), image], np.zeros(2, int)), np.arange(2))
    with pytest.raises(DataError, match=f"example 1 of 'train'.*{said}"):
        list(evaluation(data, SMALL, batch_size=2))


def test_mixed_pictures_and_labels_are_refused():
    mixed = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)]
    with pytest.raises(DataError, match="partly uint8"):
        list(evaluation(Subset(Pictures(mixed, [0, 1]), np.arange(2)), SMALL, batch_size=2))
    ragged = Pictures(mixed[:1] * 2, [np.zeros(2), np.zeros(3)])
    with pytest.raises(DataError, match="different shapes"):
        list(evaluation(Subset(ragged, np.arange(2)), SMALL, batch_size=2))


def test_nothing_to_train_on_is_refused_at_once():
    with pytest.raises(DataError, match="empty"):
        training(subset(0, of=3), SMALL, batch_size=2, seed=0)


@pytest.fixture
def of_grain():
    """() -> threads that make batches and that the test has begun."""

    def now():
        return {t for t in threading.enumerate() if t.name.startswith("grain-prefetch")}

    before = now()
    return lambda: now() - before


def gone(of_grain):
    deadline = time.monotonic() + 5
    while of_grain() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not of_grain()


def test_threads_end_with_the_stream(of_grain):
    stream = training(subset(), SMALL, batch_size=4, seed=0, threads=3)
    next(stream)
    assert of_grain()
    stream.close()
    assert gone(of_grain)
    list(evaluation(subset(), SMALL, batch_size=4))
    assert gone(of_grain)


def test_an_error_in_a_thread_arrives_and_ends_the_threads(of_grain):
    class Damaged(Pictures):
        def __getitem__(self, index):
            raise DataError("The picture 'a.jpg' cannot be read.")

    data = Subset(Damaged(None, np.zeros(4, int)), np.arange(4))
    with pytest.raises(DataError, match=r"a\.jpg"):
        next(training(data, SMALL, batch_size=4, seed=0))
    assert gone(of_grain)


def test_threads_end_where_what_goes_through_the_batches_fails(of_grain):
    """Also while the error's traceback still holds the batches, as a failed run's does."""

    def fails(*given):
        raise FloatingPointError

    batches = evaluation(subset(40), SMALL, batch_size=4, threads=2)
    with pytest.raises(FloatingPointError) as failed:
        evaluate(fails, None, Variables({}, {}), None, batches)
    del batches
    assert gone(of_grain)
    assert failed.traceback


def lopsided(counts=(7, 2, 1)):
    """So many examples of each class, mixed; a class between them has none."""
    labels = np.random.default_rng(3).permutation(np.repeat([0, 1, 3], counts))
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 3), np.uint8)
    return Subset(Pictures(images, labels), np.random.default_rng(1).permutation(len(labels)))


@pytest.mark.parametrize("size", [1, 4, 6, 8])
def test_balanced_draws_every_class_once_a_round(size):
    """Whatever the batch size: of any 3 k first draws k are of each of 3 classes."""
    found = batches(lopsided(), 42, batch_size=size, balanced=True)
    drawn = np.concatenate([batch.targets["label"] for batch in found])
    rounds = drawn[: len(drawn) // 3 * 3].reshape(-1, 3)
    assert (np.sort(rounds, axis=1) == [0, 1, 3]).all()
    assert len({tuple(one) for one in rounds.tolist()}) > 3, "in a new order each time"


def test_within_a_class_balanced_examples_go_round_in_a_new_order():
    found = batches(lopsided(), 63, balanced=True)
    label = np.concatenate([batch.targets["label"] for batch in found])
    index = np.concatenate([batch.index for batch in found])
    for which, count in ((0, 7), (1, 2), (3, 1)):
        own = index[label == which]
        epochs = own[: len(own) // count * count].reshape(-1, count).tolist()
        assert len(epochs) >= 12
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len(set(epochs[0])) == count
        assert count == 1 or len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("start", range(0, 13, 3))
def test_balanced_is_a_function_of_data_seed_and_step(start):
    data = lopsided()
    whole = batches(data, 14, balanced=True, seed=5)
    same(batches(data, 14 - start, balanced=True, seed=5, start=start), whole[start:])
    other = batches(data, 14, balanced=True, seed=6)
    assert any((a.index != b.index).any() for a, b in zip(whole, other, strict=True))


def test_processes_read_their_rows_of_the_same_balanced_batch():
    whole = batches(lopsided(), 5, balanced=True)
    halves = [batches(lopsided(), 5, balanced=True, own=slice(k, k + 2)) for k in (0, 2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(batch.index, np.concatenate([p.index for p in parts]))


def test_epochs_say_how_often_an_example_was_drawn_before():
    labels = lopsided().labels
    for of in (len(labels), labels):
        drawn, before = order(of, 4, 0), np.zeros(len(labels), int)
        for step in range(40):
            for position, epoch in zip(*drawn(step), strict=True):
                assert before[position] == epoch
                before[position] += 1
