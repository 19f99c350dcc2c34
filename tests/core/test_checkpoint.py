"""What a run saves comes back bit for bit, or is refused by the name of the leaf."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.checkpoint import Checkpoints
from tlx.devices.mesh import shared
from tlx.errors import CheckpointError
from tlx.trees import flat
from tlx.types import TrainState, Variables


def train_state(step: int, size: int = 8):
    """What a run saves, all of it depending on the step."""
    key = jax.random.fold_in(jax.random.key(7), step)
    params = {
        "backbone": {
            "stem": {"kernel": jax.random.normal(key, (3, 3, 3, size)), "bias": jnp.zeros(size)},
            "half": jax.random.normal(key, (5, size)).astype(jnp.bfloat16),
        },
        "head": {},
        "divergence/l2": {"own": jax.random.normal(key, (size,))},
    }
    state = {"backbone": {"bn": {"mean": jnp.full((size,), step * 0.1)}}, "head": {}}
    train = TrainState(
        step=jnp.int32(step),
        params=params,
        state=state,
        opt_state=optax.adamw(1e-3).init(params),
        rng=key,
        ledger={"best": jnp.float32(-jnp.inf), "since": jnp.int32(step), "nan": jnp.float32("nan")},
    )
    return {"train": train, "best": Variables(params, state)}


def bits(tree):
    """Leaf path -> everything there is to know about it."""
    known = {}
    for path, leaf in flat(tree).items():
        kind = str(getattr(leaf, "dtype", type(leaf).__name__))
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        known[path] = (kind, array.shape, array.tobytes())
    return known


@pytest.fixture
def root(tmp_path):
    return tmp_path / "checkpoints"


def test_a_train_state_comes_back_bit_for_bit(root):
    tree = train_state(3)
    with Checkpoints(root) as checkpoints:
        folder = checkpoints.save(3, tree, {"epoch": 1.5, "phase": "tune", "list": [1, None]})
    assert sorted(p.name for p in folder.iterdir()) == ["arrays", "manifest.json", "step.json"]
    with Checkpoints(root) as checkpoints:
        found = checkpoints.restore(train_state(0))
    assert found is not None
    assert (found.step, found.notes) == (3, ())
    assert found.meta == {"epoch": 1.5, "phase": "tune", "list": [1, None]}
    assert jax.tree.structure(found.tree) == jax.tree.structure(tree)
    assert bits(found.tree) == bits(tree)
    assert isinstance(found.tree["train"], TrainState)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found.tree))


def test_every_kind_of_leaf_comes_back_as_what_it_was(root):
    tree = {
        "int": 3,
        "float": 0.1,
        "bool": True,
        "f64": np.float64(0.1),
        "numpy": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "zero_d": np.array(2.5),
        "jax": jnp.arange(3, dtype=jnp.uint8),
        "flag": jnp.array(True),
        "empty": jnp.zeros((0, 3)),
        "no_keys": jax.random.split(jax.random.key(0), 0),
        "keys": jax.random.split(jax.random.key(1), 3),
        "rbg": jax.random.key(1, impl="rbg"),
        "raw_key": jax.random.PRNGKey(1),
        "complex": jnp.array([1 + 2j]),
        "float8": jnp.ones((4,), jnp.float8_e4m3fn),
        "deep": [(), {}, None, (1, [2.0])],
        "a": {"b": 1},
        "a.b": 2,
        "a%2Fb c\n": 3,
        "": 4,
    }
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, tree)
        found = checkpoints.restore(tree)
    assert found is not None
    assert jax.tree.structure(found.tree) == jax.tree.structure(tree)
    assert bits(found.tree) == bits(tree)
    for before, after in zip(jax.tree.leaves(tree), jax.tree.leaves(found.tree), strict=True):
        assert type(before) is type(after)
    same = jax.random.normal(tree["rbg"], (3,)) == jax.random.normal(found.tree["rbg"], (3,))
    assert same.all()


def test_shapes_alone_are_enough_and_a_function_of_the_step_will_do(root):
    tree = train_state(5)
    asked = []

    def like(step, meta):
        asked.append((step, meta))
        return jax.eval_shape(lambda: train_state(0))

    with Checkpoints(root) as checkpoints:
        checkpoints.save(5, tree, {"steps": 9})
        found = checkpoints.restore(like)
    assert asked == [(5, {"steps": 9})]
    assert found is not None
    assert bits(found.tree) == bits(tree)


def test_a_tree_without_arrays_is_a_checkpoint_too(root):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, {"head": {}})
        found = checkpoints.restore({"head": {}})
    assert found is not None
    assert found.tree == {"head": {}}


def test_a_sharding_that_is_asked_for_is_given(root):
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), "x"), PartitionSpec("x"))
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, {"w": jnp.arange(4.0)})
        found = checkpoints.restore(
            {"w": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding)}
        )
    assert found is not None
    assert found.tree["w"].sharding == sharding


def test_a_restored_state_does_not_share_memory_with_anything(root):
    """A step donates its state; a donated buffer must be jax's own."""
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(1000)})
        found = checkpoints.restore({"w": jnp.zeros(1000)})
    assert found is not None
    changed = jax.jit(lambda w: w + 1, donate_argnums=0)(found.tree["w"])
    assert (changed == 2).all()


def test_nothing_to_restore(root):
    with Checkpoints(root) as checkpoints:
        assert checkpoints.steps() == ()
        assert checkpoints.restore({"w": jnp.zeros(3)}) is None
    assert not root.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, "bais": jnp.zeros(2)}, ["no leaf 'bais'", "Did you mean 'bias'?"]),
        (lambda t: {"kernel": t["kernel"]}, ["has a leaf 'bias'", "does not have"]),
        (lambda t: {**t, "bias": jnp.zeros(3)}, ["'bias'", "shape (2)", "(3) in this run"]),
        (lambda t: {**t, "bias": jnp.zeros(2, jnp.int32)}, ["'bias'", "float32", "int32 in this"]),
        (lambda t: {**t, "bias": jnp.zeros(2, jnp.bfloat16)}, ["float32", "bfloat16"]),
        (lambda t: {**t, "rng": jax.random.PRNGKey(0)}, ["'rng'"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_the_name_of_the_leaf(root, change, words):
    tree = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "rng": jax.random.key(0)}
    with Checkpoints(root) as checkpoints:
        checkpoints.save(1, tree)
        wanted = change(tree)
        wanted.setdefault("rng", tree["rng"])
        with pytest.raises(CheckpointError) as caught:
            checkpoints.restore(wanted)
    for word in words:
        assert word in str(caught.value)


def test_only_the_newest_are_kept(root):
    with Checkpoints(root, keep=2) as checkpoints:
        for step in (1, 2, 30, 100_000_000):
            checkpoints.save(step, {"w": jnp.full(3, step)})
        assert checkpoints.steps() == (30, 100_000_000)
        assert sorted(p.name for p in root.iterdir()) == ["00000030", "100000000"]


def test_an_existing_or_older_step_is_refused(root):
    with Checkpoints(root) as checkpoints:
        checkpoints.save(5, {"w": jnp.ones(3)})
        for step in (5, 4):
            with pytest.raises(CheckpointError, match=f"Step {step} cannot be saved.*step 5"):
                checkpoints.save(step, {"w": jnp.zeros(3)})
        found = checkpoints.restore({"w": jnp.zeros(3)})
    assert found is not None
    assert (found.tree["w"] == 1).all()


def test_what_is_no_array_is_refused_by_name(root):
    with Checkpoints(root) as checkpoints:
        for odd in ("resnet", np.array(["a"]), object(), np.array([None])):
            with pytest.raises(CheckpointError, match=r"'name' is a .*cannot hold"):
                checkpoints.save(1, {"name": odd})
        with pytest.raises(CheckpointError, match="same path"):
            checkpoints.save(1, {"a": {"b": 1}, "a/b": 2})
        assert checkpoints.steps() == ()
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoints(root, keep=0)


def test_closing_twice_and_using_it_again(root):
    checkpoints = Checkpoints(root)
    checkpoints.close()
    checkpoints.save(1, {"w": jnp.ones(3)})
    checkpoints.close()
    checkpoints.close()
    assert checkpoints.restore({"w": jnp.ones(3)}) is not None
    checkpoints.close()


def test_a_save_of_a_megabyte_is_cheap(root):
    tree = {f"layer{i}": jnp.ones((60, 70)) for i in range(60)}
    with Checkpoints(root) as checkpoints:
        checkpoints.save(0, tree)
        begun = time.process_time()  # not the clock on the wall: machines are busy
        for step in range(1, 6):
            checkpoints.save(step, tree)
    assert (time.process_time() - begun) / 5 < 0.3


def test_a_save_that_was_begun_is_what_the_state_was_then(root):
    """Although the step that follows gives the memory of its state away."""
    tree = train_state(3)
    wanted = bits(tree)
    with Checkpoints(root) as checkpoints:
        checkpoints.begin(3, tree)
        for leaf in jax.tree.leaves(tree):
            leaf.delete()
    with Checkpoints(root) as checkpoints:
        found = checkpoints.restore(train_state(0))
    assert found is not None
    assert bits(found.tree) == wanted


def test_a_save_that_was_begun_does_not_keep_the_run_waiting(root, monkeypatch):
    hold, real = threading.Event(), Checkpoints._write
    monkeypatch.setattr(
        Checkpoints, "_write", lambda *arguments: (hold.wait(), real(*arguments))[1]
    )
    with Checkpoints(root) as checkpoints:
        checkpoints.begin(1, train_state(1))
        assert checkpoints.steps() == ()
        hold.set()
        checkpoints.wait()
        assert checkpoints.steps() == (1,)
        checkpoints.begin(2, train_state(2))
    assert checkpoints.steps() == (1, 2)


@pytest.mark.parametrize("waiting", ["wait", "close", "begin", "save"])
def test_what_goes_wrong_in_a_save_that_was_begun_is_raised(root, waiting):
    checkpoints = Checkpoints(root)
    checkpoints.save(2, {"a": 1})
    checkpoints.begin(1, {"a": 1})
    step = (3, {"a": 1}) if waiting in ("begin", "save") else ()
    with pytest.raises(CheckpointError, match="Step 1 cannot be saved"):
        getattr(checkpoints, waiting)(*step)
    checkpoints.close()
    assert checkpoints.steps() == (2,)


def test_neither_a_restored_step_nor_a_batch_takes_a_program(tmp_path):
    """Else a resumed run compiles one for each shape of array, as `jnp.asarray` does."""
    rows = {f"leaf{n}": np.ones((n, 23), np.float32) for n in range(5, 9)}
    compiled = []

    def listen(event, seconds, **_):
        compiled.append(event.endswith("backend_compile_duration"))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, rows)
        like = jax.tree.map(lambda row: jax.ShapeDtypeStruct(row.shape, row.dtype), rows)
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            found = checkpoints.restore(like)
            batch = shared(rows, None)
            assert not any(compiled)
            jax.jit(lambda leaves: leaves["leaf5"] + 23)(batch)  # the listener does hear
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
    assert any(compiled)
    assert found is not None
    assert all(isinstance(leaf, jax.Array) for leaf in (*found.tree.values(), *batch.values()))
