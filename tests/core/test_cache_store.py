"""Tables are computed once: held, kept in files, found again, and never believed when damaged."""

import time

import jax
import numpy as np
import pytest

from tlx.cache import Order
from tlx.feeding.cache_store import Budget, Store
from tlx.files import cache_files
from tlx.types import Batch, FrozenFeatures

ROWS, PART = 10, 4
ROOMY = Budget(1e9, 1e9)
NO_MEMORY = Budget(0, 1e9)


def rows(index, pooled):
    """Rows whose pictures nobody reads."""
    return Batch({}, {}, index, (), frozen=FrozenFeatures(None, {"pooled": pooled}))


@pytest.fixture
def order():
    """Makes an order of ten rows; `made` counts how often its rows were computed."""

    def make(key="a", *, seconds=0.0, of=1.0):
        made = []

        def parts():
            made.append(key)
            time.sleep(seconds)
            for first in range(0, ROWS, PART):
                index = np.arange(first, min(first + PART, ROWS), dtype=np.int32)
                feature = of * np.stack([index, index**2], -1).astype(np.float32)
                yield rows(index, feature)

        shape = jax.ShapeDtypeStruct
        like = rows(shape((ROWS,), np.int32), shape((ROWS, 2), np.float32))
        blank = {"image": shape((PART, 8, 8, 3), np.uint8)}
        return Order(key, like, blank, 1, parts), made

    return make


def fetched(store, order, budget, said=None):
    return store.tables({"train": order}, budget, said.append if said is not None else print)


def is_right(kept):
    rows = kept["train"].table.rows
    np.testing.assert_array_equal(rows.index, np.arange(ROWS))
    np.testing.assert_array_equal(rows.frozen.features["pooled"][:, 1], np.arange(ROWS) ** 2.0)
    return True


def test_memory_serves_the_second_phase(order, tmp_path):
    wanted, made = order()
    store = Store(tmp_path)
    first, second = (fetched(store, wanted, ROOMY) for _ in range(2))
    assert is_right(first)
    assert is_right(second)
    assert (first["train"].reused, second["train"].reused, made) == (False, True, ["a"])
    assert not list(tmp_path.iterdir()), "what is quickly computed is not written"


def test_what_took_long_serves_the_next_run(order, tmp_path, monkeypatch):
    monkeypatch.setattr("tlx.feeding.cache_store.WORTH", 0.01)
    wanted, made = order(seconds=0.02)
    assert not fetched(Store(tmp_path), wanted, ROOMY)["train"].reused
    again = fetched(Store(tmp_path), wanted, ROOMY)
    assert is_right(again)
    assert again["train"].reused
    assert again["train"].seconds >= 0.02, "what it saved is what it took"
    assert made == ["a"]


def test_what_exceeds_memory_is_mapped_from_files(order, tmp_path):
    wanted, made = order()
    kept = fetched(Store(tmp_path), wanted, NO_MEMORY)
    assert is_right(kept)
    assert kept["train"].folder == tmp_path / "a"
    leaf = kept["train"].table.rows.frozen.features["pooled"]
    while leaf.base is not None and not isinstance(leaf, np.memmap):
        leaf = leaf.base
    assert isinstance(leaf, np.memmap)
    assert fetched(Store(tmp_path), wanted, NO_MEMORY)["train"].reused
    assert made == ["a"]


@pytest.mark.parametrize("budget", [ROOMY, NO_MEMORY])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "manifest"])
def test_a_damaged_table_is_computed_anew(order, tmp_path, budget, damage):
    wanted, made = order()
    fetched(Store(tmp_path), wanted, NO_MEMORY)
    file = tmp_path / "a" / "1"
    if damage == "bit":
        raw = bytearray(file.read_bytes())
        raw[17] ^= 4
        file.write_bytes(bytes(raw))
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "gone":
        file.unlink()
    else:
        (tmp_path / "a" / "manifest.json").unlink()
    said = []
    assert is_right(fetched(Store(tmp_path), wanted, budget, said))
    assert made == ["a", "a"]
    assert "damaged and computed anew" in said[0]


def test_a_killed_write_leaves_no_table(order, tmp_path):
    wanted, _ = order()

    def killed():
        yield next(wanted.parts())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_files.written(tmp_path, "a", killed(), lambda: 0.0)
    assert not (tmp_path / "a").exists()
    assert is_right(fetched(Store(tmp_path), wanted, NO_MEMORY))


def test_a_full_disk_is_said_and_costs_only_the_cache(order, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    wanted, made = order()
    monkeypatch.setattr(cache_files, "written", full)
    said = []
    assert fetched(Store(tmp_path), wanted, NO_MEMORY, said) == {}
    assert "No space left on device" in said[0]
    monkeypatch.setattr("tlx.feeding.cache_store.WORTH", 0.0)
    assert is_right(fetched(Store(tmp_path), wanted, ROOMY, said))
    assert made == ["a"]


def test_neither_memory_nor_disk(order, tmp_path):
    wanted, made = order()
    assert fetched(Store(tmp_path), wanted, Budget(0, 0)) == {}
    assert not made


def test_memory_keeps_within_its_budget(order, tmp_path):
    (one, made), (other, _) = order("a"), order("b")
    store, tight = Store(tmp_path), Budget(1.5 * order()[0].nbytes, 0)
    fetched(store, one, tight)
    fetched(store, other, tight)
    fetched(store, one, tight)
    assert made == ["a", "a"], "it had to go for the other"


def test_the_folder_keeps_within_its_budget(order, tmp_path):
    (one, _), (other, _), (third, _) = order("a"), order("b"), order("c")
    size = one.nbytes
    for wanted in (one, other):
        fetched(Store(tmp_path), wanted, Budget(0, 1e9))
        time.sleep(0.02)  # the clock of the disk
    fetched(Store(tmp_path), one, Budget(0, 1e9))  # used again, so the other is the older one
    taken = sum(f.stat().st_size for f in (tmp_path / "a").iterdir())
    fetched(Store(tmp_path), third, Budget(0, taken + size + 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
