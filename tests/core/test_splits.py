"""Who trains, selects and tests: shares, strata, shots, and nothing shared."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit
from tlx_data.image_info import image_info

from tlx.data.splits import Subset, cut, shuffled
from tlx.errors import ConfigError, DataError


@dataclass(eq=False)
class Plain:
    """A split without `labels`; counts how often it was read."""

    y: np.ndarray
    reads: int = 0

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        self.reads += 1
        return {"image": np.full((2, 2, 3), index % 256, np.uint8), "label": self.y[index]}


@dataclass(eq=False)
class WithLabels(Plain):
    @property
    def labels(self):
        return self.y


@dataclass
class Source:
    splits: dict
    classes: tuple = ("a", "b", "c")
    fingerprint: str = "f"
    kind: type = WithLabels
    made: dict = field(default_factory=dict)

    @property
    def info(self):
        sizes = {name: len(y) for name, y in self.splits.items()}
        return image_info("toy", (2, 2, 3), self.classes, sizes, self.fingerprint)

    def split(self, name):
        return self.made.setdefault(name, self.kind(self.splits[name]))


@dataclass
class Noting(Source):
    notes: tuple = ("3 files were ignored.",)


def uneven(n=200):
    return np.random.default_rng(0).choice(3, n, p=[0.6, 0.3, 0.1]).astype(np.int64)


def lone(**options):
    return cut(Source({"train": uneven()}), seed=0, **options)


def numbers(*subsets):
    return np.concatenate([s.indices for s in subsets])


def test_a_lone_train_is_cut_into_three_that_share_nothing():
    splits = lone()
    assert (len(splits.test), len(splits.val), len(splits.train)) == (40, 16, 144)
    assert sorted(numbers(*splits[:3])) == list(range(200))
    assert "test split is 40 of the 200" in splits.notes[0]
    assert "validation split is 16 of the 160" in splits.notes[1]


def test_the_cut_is_stratified_like_scikit_learn_does_it():
    y = uneven()
    reference = StratifiedShuffleSplit(1, test_size=40, random_state=0)
    _, theirs = next(reference.split(np.zeros((200, 1)), y))
    ours = np.bincount(lone().test.labels, minlength=3)
    assert abs(ours - np.bincount(y[theirs], minlength=3)).max() <= 1
    assert abs(ours - np.bincount(y) * 40 / 200).max() < 1


def test_membership_depends_on_fingerprint_and_seed_alone():
    first = lone()
    again = lone()
    other_seed = cut(Source({"train": uneven()}), seed=1)
    other_data = cut(Source({"train": uneven()}, fingerprint="g"), seed=0)
    for name in ("train", "val", "test"):
        same = getattr(first, name).indices
        np.testing.assert_array_equal(same, getattr(again, name).indices)
        assert set(same) != set(getattr(other_seed, name).indices)
        assert set(same) != set(getattr(other_data, name).indices)


def test_the_test_split_does_not_depend_on_shots_or_val():
    np.testing.assert_array_equal(lone().test.indices, lone(shots=3).test.indices)
    np.testing.assert_array_equal(lone().test.indices, lone(val=50).test.indices)


def test_own_splits_are_used_whole():
    splits = cut(Source({"train": uneven(), "val": uneven(20), "test": uneven(30)}), seed=0)
    assert [len(s) for s in splits[:3]] == [200, 20, 30]
    assert [s.name for s in splits[:3]] == ["train", "val", "test"]
    assert splits.notes == ()


def test_a_validation_split_without_a_test_becomes_the_test():
    splits = cut(Source({"train": uneven(), "val": uneven(30)}), seed=0)
    assert splits.test.name == "val"
    np.testing.assert_array_equal(splits.test.indices, np.arange(30))
    assert (splits.val.name, len(splits.val), len(splits.train)) == ("train", 20, 180)
    assert not set(splits.val.indices) & set(splits.train.indices)
    assert "validation split (30 examples) is the test" in splits.notes[0]


def test_a_test_that_is_asked_for_is_cut_and_leaves_the_validation_split():
    splits = cut(Source({"train": uneven(), "val": uneven(30)}), test=0.25, seed=0)
    assert (splits.test.name, len(splits.test)) == ("train", 50)
    assert (splits.val.name, len(splits.val), len(splits.train)) == ("val", 30, 150)


def test_only_a_test_split_leaves_validation_to_be_cut():
    splits = cut(Source({"train": uneven(), "test": uneven(30)}), seed=0)
    assert [len(s) for s in splits[:3]] == [180, 20, 30]


@pytest.mark.parametrize("option", ["val", "test"])
def test_cutting_what_is_there_is_refused(option):
    source = Source({"train": uneven(), "val": uneven(20), "test": uneven(30)})
    with pytest.raises(ConfigError, match=f"{option} = 0.5.*brings its own '{option}'"):
        cut(source, seed=0, **{option: 0.5})


def test_sizes_are_shares_or_counts():
    splits = lone(val=7, test=0.5)
    assert (len(splits.test), len(splits.val)) == (100, 7)


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.0, 1.5, True])
def test_sizes_without_meaning_are_refused(size):
    with pytest.raises(ConfigError, match="validation split cannot be"):
        lone(val=size)


def test_a_cut_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match="leaves nothing to train on"):
        lone(val=160)


@pytest.mark.parametrize("shots", [1, 5])
def test_shots_are_balanced_and_so_is_their_validation(shots):
    splits = lone(shots=shots)
    assert np.bincount(splits.train.labels).tolist() == [shots] * 3
    assert np.bincount(splits.val.labels).tolist() == [shots] * 3
    assert len(set(numbers(*splits[:3]))) == 40 + 6 * shots


@pytest.mark.parametrize("limit", [1, 15, 1000])
def test_a_limit_takes_what_a_class_has(limit):
    """The other splits are those of a run without it."""
    free, splits = lone(), lone(limit=limit)
    assert np.bincount(splits.train.labels).tolist() == [
        min(limit, many) for many in np.bincount(free.train.labels)
    ]
    assert set(splits.train.indices) <= set(free.train.indices)
    for left, right in ((free.val, splits.val), (free.test, splits.test)):
        np.testing.assert_array_equal(left.indices, right.indices)
    assert splits.notes[-1] == (
        f"Training uses {len(splits.train)} of {len(free.train)} examples, at most {limit} of each "
        f"class."
    )


def test_a_lower_limit_is_among_a_higher_one():
    assert set(lone(limit=3).train.indices) < set(lone(limit=9).train.indices)


def test_a_limit_needs_classes_and_no_shots():
    with pytest.raises(ConfigError, match=r"shots = 2 and limit = 3 both say"):
        lone(limit=3, shots=2)
    numbers = Source({"train": np.linspace(0, 1, 50)}, classes=())
    with pytest.raises(ConfigError, match=r"limit = 3 needs one class per example"):
        cut(numbers, limit=3, seed=0)


def test_fewer_shots_are_among_more_shots():
    assert set(lone(shots=2).train.indices) < set(lone(shots=5).train.indices)


def test_shots_with_a_validation_of_its_own_size():
    splits = lone(shots=2, val=0.2)
    assert len(splits.val) == 32
    assert not set(splits.val.indices) & set(splits.train.indices)


def test_shots_take_what_is_left_for_validation():
    y = np.repeat([0, 1, 2], [20, 20, 7])
    splits = cut(Source({"train": y, "test": y}), shots=5, seed=0)
    assert np.bincount(splits.val.labels).tolist() == [5, 5, 2]


def test_too_few_shots_name_the_class():
    y = np.repeat([0, 1, 2], [20, 20, 4])
    with pytest.raises(DataError, match=r"class 'c' has 4 examples.*one more for validation"):
        cut(Source({"train": y, "test": y}), shots=4, seed=0)
    assert len(cut(Source({"train": y, "test": y, "val": y}), shots=4, seed=0).train) == 12


def test_shots_need_classes():
    source = Source({"train": np.linspace(0, 1, 50, dtype=np.float32)}, classes=())
    with pytest.raises(ConfigError, match="shots = 3"):
        cut(source, shots=3, seed=0)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.linspace(0, 1, 50, dtype=np.float32), ()),
        (np.random.default_rng(0).integers(0, 2, (50, 3)), ("a", "b", "c")),
    ],
)
@pytest.mark.parametrize("kind", [Plain, WithLabels])
def test_labels_that_are_no_classes_are_cut_all_the_same(labels, classes, kind):
    splits = cut(Source({"train": labels}, classes=classes, kind=kind), seed=0)
    assert [len(s) for s in splits[:3]] == [36, 4, 10]
    assert sorted(numbers(*splits[:3])) == list(range(50))
    np.testing.assert_array_equal(splits.train.labels, labels[splits.train.indices])
    assert "stratified" not in "".join(splits.notes)


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_label_that_is_no_class_is_refused_by_number(bad, split):
    wrong = uneven(40)
    wrong[17] = bad
    splits = {"train": uneven(), "test": uneven(40), split: wrong}
    with pytest.raises(DataError, match=rf"Example 17 of '{split}' has the label {bad}"):
        cut(Source(splits), seed=0)


def test_a_missing_number_is_refused():
    y = np.asarray([0.5, np.nan] * 10, np.float32)
    with pytest.raises(DataError, match="missing"):
        cut(Source({"train": y}, classes=()), seed=0)


def test_a_source_without_train_is_refused():
    with pytest.raises(DataError, match="no split called 'train'; it has test"):
        cut(Source({"test": uneven()}), seed=0)


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="no example for test"):
        cut(Source({"train": uneven(), "test": uneven(0)}), seed=0)


def test_a_single_example_of_a_class_is_kept_for_training():
    y = np.asarray([0] * 30 + [1])
    for seed in range(5):
        splits = cut(Source({"train": y}, classes=("a", "b")), test=0.9, seed=seed)
        assert 1 in splits.train.labels


def test_labels_are_read_once_where_they_have_to_be_read():
    source = Source({"train": uneven()}, kind=Plain)
    splits = cut(source, seed=0)
    for subset in splits[:3]:
        np.testing.assert_array_equal(subset.labels, uneven()[subset.indices])
    assert source.made["train"].reads == 200


def test_an_example_is_the_one_of_its_number():
    splits = lone()
    for subset in splits[:3]:
        assert subset[3]["image"][0, 0, 0] == subset.indices[3]
        assert subset[3]["label"] == subset.labels[3]
    part = Subset(splits.train, np.asarray([5, 2]))
    assert part[1]["image"][0, 0, 0] == splits.train.indices[2]


def test_what_the_source_has_to_say_comes_first():
    splits = cut(Noting({"train": uneven()}), seed=0)
    assert splits.notes[0] == "3 files were ignored."
    assert len(splits.notes) == 3


def test_an_order_is_written_in_stone():
    assert shuffled(8, "a").tolist() == [2, 0, 1, 7, 4, 5, 6, 3]
    assert sorted(shuffled(1000, "b")) == list(range(1000))
    assert shuffled(0, "c").tolist() == []


def test_orders_are_even():
    first = np.bincount([shuffled(5, str(key))[0] for key in range(1000)])
    # chi-square with 4 degrees of freedom: 18.5 is passed once in a thousand times by chance.
    assert ((first - 200) ** 2 / 200).sum() < 18.5
