"""Keras files: names and numbers against Keras itself, and what is said of hostile ones."""

import io
import json
import os
import zipfile

import h5py
import numpy as np
import pytest
from tlx_weights.keras_names import plain

from tlx import registry
from tlx.errors import WeightsError
from tlx.protocols import WeightSource

pytestmark = pytest.mark.filterwarnings(
    # Keras copies its variables in a way that NumPy 2 warns of.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def source(path, **options):
    return registry.build("weights", "keras", {"path": str(path), **options})


def read(path):
    return dict(source(path).tensors().values)


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras", reason="Keras is not installed")


def network(keras):
    """Layers of every kind in the table, with and without their optional variables, nested."""
    layers = keras.layers
    picture = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv1_conv")(picture)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.BatchNormalization(scale=False, name="unscaled")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="bare_bn")(x)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    x = layers.Conv2D(4, 1)(x)
    x = layers.Conv2DTranspose(4, 1)(layers.Conv2D(4, 1, use_bias=False)(x))
    x = layers.SeparableConv2D(6, 1, name="separable")(layers.GroupNormalization(2)(x))
    x = keras.Sequential([layers.Dense(6, name="deep"), layers.Dropout(0.5)], name="inner")(x)
    x = layers.PReLU()(x)
    within = keras.Input((4, 4, 6))
    x = keras.Model(within, layers.Dense(6, name="nested")(within), name="lends_no_name")(x)
    x = layers.Reshape((16, 6))(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LayerNormalization(center=False, name="uncentred")(x)
    x = layers.Dense(2, name="predictions")(layers.Flatten()(x))
    return keras.Model(picture, x, name="toy")


@pytest.fixture(scope="module")
def saved(keras, tmp_path_factory):
    """The files of a model with an optimizer, and its variables by path."""
    from keras.src.legacy.saving import legacy_h5_format

    folder = tmp_path_factory.mktemp("keras")
    model = network(keras)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(folder / "net.keras")
    model.save(folder / "net.h5")
    model.save_weights(folder / "net.weights.h5")
    with h5py.File(folder / "old.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    wanted = {
        v.path: np.asarray(v.value) for v in model.variables if "seed_generator" not in v.path
    }
    return folder, wanted


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "old.h5"])
def test_names_and_numbers_are_keras_own(saved, name):
    folder, wanted = saved
    assert isinstance(source(folder / name), WeightSource)
    found = read(folder / name)
    assert found.keys() == wanted.keys()
    for path, values in wanted.items():
        np.testing.assert_array_equal(found[path], values)


def test_weights_alone_do_not_say_what_a_norm_left_out(saved):
    """Gamma or beta: only an archive tells. All else has its name."""
    folder, wanted = saved
    numbered = {
        "unscaled/0": "unscaled/beta",
        "unscaled/1": "unscaled/moving_mean",
        "unscaled/2": "unscaled/moving_variance",
        "uncentred/0": "uncentred/gamma",
    }
    found = read(folder / "net.weights.h5")
    assert {numbered.get(name, name) for name in found} == wanted.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, wanted[numbered.get(name, name)])


def test_models_that_are_no_graph(keras, tmp_path):
    """A sequential model and a class of one's own lend their names, as they do in Keras. Of a
    layer with a name of its own under an attribute, nothing tells the class."""
    layers = keras.layers

    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.first = layers.Dense(3, name="entry")
            self.blocks = [layers.Dense(3), layers.LayerNormalization()]

        def call(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            return x

    for model in (Own(), keras.Sequential([layers.Dense(3, name="a")], name="line")):
        model(np.zeros((2, 4), np.float32))
        file = tmp_path / f"{model.name}.weights.h5"
        model.save_weights(file)
        numbered = {"own/entry/0": "own/entry/kernel", "own/entry/1": "own/entry/bias"}
        found = {numbered.get(name, name) for name in read(file)}
        assert found == {v.path for v in model.variables}


def test_half_precision(keras, tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16", name="half")], name="line"
    )
    model.save(tmp_path / "half.keras")
    found = read(tmp_path / "half.keras")["line/half/kernel"]
    assert str(found.dtype) == "bfloat16"
    np.testing.assert_array_equal(found, np.asarray(model.variables[0].value))


@pytest.mark.parametrize(
    ("layer", "stored", "name"),
    [
        ("conv1_conv", "conv1_conv/kernel:0", "conv1_conv/kernel"),
        ("conv1", "conv1_1/kernel:0", "conv1/kernel"),
        ("block1_conv1", "block1_conv1_W_1:0", "block1_conv1/kernel"),
        ("fc1", "fc1_b_1:0", "fc1/bias"),
        ("bn", "bn_gamma:0", "bn/gamma"),
        ("inner", "inner/deep/kernel:0", "inner/deep/kernel"),
        ("inner", "deep/kernel:0", "deep/kernel"),
        ("", "own_variable:0", "own_variable"),
    ],
)
def test_older_names(layer, stored, name):
    assert plain(layer, [stored]) == [name]


def old(path, layers):
    """A file of Keras 2: layer -> name of a variable -> what is stored under it."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, variables in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in variables]
            for name, values in variables.items():
                group[name] = values
    return path


def test_keras_2_without_keras(tmp_path):
    file = old(tmp_path / "w.h5", {"a": {"a/kernel:0": KERNEL, "a/bias:0": KERNEL[0]}, "relu": {}})
    found = read(file)
    assert found.keys() == {"a/kernel", "a/bias"}
    np.testing.assert_array_equal(found["a/kernel"], KERNEL)


def test_many_layer_names_lie_in_pieces(tmp_path):
    with h5py.File(
        old(tmp_path / "w.h5", {"a": {"a/k:0": KERNEL}, "b": {"b/k:0": KERNEL}}), "a"
    ) as f:
        del f.attrs["layer_names"]
        f.attrs["layer_names0"], f.attrs["layer_names1"] = [b"a"], [b"b"]
    assert read(tmp_path / "w.h5").keys() == {"a/k", "b/k"}


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(
                name.replace("_weights_h5", ".weights.h5").replace("_json", ".json"), data
            )
    return path


def hdf5(write):
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        write(file)
    return data.getvalue()


def dense(file):
    file["layers/dense/vars/0"] = KERNEL


def test_code_in_the_description_is_never_looked_at(tmp_path):
    """A Lambda layer carries a marshalled function; a custom object names a module."""
    trap = {
        "module": "os",
        "class_name": "Functional",
        "config": {
            "name": "net",
            "layers": [
                {"class_name": "Lambda", "config": {"name": "l", "function": ["4wAAAA==", None]}},
                {"class_name": "Dense", "config": {"name": "head", "use_bias": False}},
                {"class_name": "Dense", "config": 7},
                "Dense",
            ],
        },
    }
    file = archive(tmp_path / "n.keras", config_json=json.dumps(trap), model_weights_h5=hdf5(dense))
    assert read(file).keys() == {"head/kernel"}


def hostile(tmp_path):
    """name -> (what writes it into a file, what is said of it)."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["0"] = KERNEL
    (tmp_path / "raw").write_bytes(bytes(100))
    place = "layers/dense/vars/0"

    def virtual(file):
        layout = h5py.VirtualLayout((2, 3), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "0", (2, 3))
        file.create_virtual_dataset(place, layout)

    def external(file):
        where = [(str(tmp_path / "raw"), 0, 100)]
        file.create_dataset(place, (2, 3), "f4", external=where)

    def twice(file):
        dense(file)
        file["layers/dense/vars/1"] = file[place]

    def endless(file):
        dense(file)
        file["layers/dense/layers"] = file["layers"]

    def deep(file):
        file["/".join(["x"] * 100) + "/vars/0"] = KERNEL

    def chunked(file):
        file.create_dataset(place, (10**6, 10**5), "f4", chunks=(100, 100))

    def set_to(value):
        return lambda file: file.__setitem__(place, value)

    return {
        "soft": (set_to(h5py.SoftLink("/elsewhere")), "a link to another place"),
        "outside": (set_to(h5py.ExternalLink(str(secret), "0")), "a link to another place"),
        "virtual": (virtual, "keeps the numbers of .* elsewhere"),
        "external": (external, "keeps the numbers of .* elsewhere"),
        "words": (set_to(np.array([b"a"], object)), "no array of numbers"),
        "records": (set_to(np.zeros(2, [("a", "f4")])), "no array of numbers"),
        "empty": (set_to(h5py.Empty("f4")), "keeps the numbers"),
        "twice": (twice, "under two names"),
        "endless": (endless, "under two names"),
        "deep": (deep, "more than 64 deep"),
        "large": (chunked, "claims 400000000000 bytes"),
        "nothing": (lambda file: None, "no weights of a Keras model"),
        "other": (lambda file: file.__setitem__("x", KERNEL), "as an array instead of a group"),
        "named": (lambda file: file.attrs.__setitem__("layer_names", ["gone"]), "has no '/gone'"),
    }


CASES = (
    "soft", "outside", "virtual", "external", "words", "records", "empty", "twice", "endless",
    "deep", "large", "nothing", "other", "named",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_hostile_files(tmp_path, case):
    cases = hostile(tmp_path)
    assert tuple(cases) == CASES
    write, said = cases[case]
    data = hdf5(write)
    file = tmp_path / "w.weights.h5"
    file.write_bytes(data)
    with pytest.raises(WeightsError, match=said):
        read(file)
    with pytest.raises(WeightsError, match=said):
        read(archive(tmp_path / "w.keras", model_weights_h5=data))


def test_other_bad_files(tmp_path):
    good = old(tmp_path / "w.h5", {"a": {"a/kernel:0": KERNEL}})
    data = good.read_bytes()
    for name, bad, said in (
        ("half.h5", data[: len(data) // 2], "cannot be read"),
        ("text.h5", b"hello", "is no Keras file"),
        ("none.h5", b"", "is no Keras file"),
    ):
        (tmp_path / name).write_bytes(bad)
        with pytest.raises(WeightsError, match=said):
            read(tmp_path / name)
    with pytest.raises(WeightsError, match=r"there is no model\.weights\.h5"):
        read(archive(tmp_path / "a.keras", config_json="{}"))
    with pytest.raises(WeightsError, match="cannot be read"):
        read(archive(tmp_path / "b.keras", config_json="{", model_weights_h5=hdf5(dense)))
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as file:
        file.writestr("../model.weights.h5", hdf5(dense))
    with pytest.raises(WeightsError, match="leads out of the archive"):
        read(tmp_path / "c.keras")
    with pytest.raises(WeightsError, match=r"no file .*v\.h5\. Did you mean 'w\.h5'"):
        read(tmp_path / "v.h5")
    with pytest.raises(WeightsError, match="is not the file that was meant"):
        source(good, sha256="00").tensors()


def test_mutated_files_are_sentences(tmp_path):
    """Bytes changed at random: our own error, or an array of what is there."""
    rng = np.random.default_rng(0)
    whole = np.frombuffer(hdf5(dense), np.uint8)
    file = tmp_path / "w.h5"
    for _ in range(100):
        data = whole.copy()
        places = rng.integers(0, len(data), rng.integers(1, 6))
        data[places] = rng.integers(0, 256, len(places))
        file.write_bytes(data.tobytes())
        try:
            found = read(file)
        except WeightsError:
            continue
        assert sum(values.nbytes for values in found.values()) <= len(whole) * 1032
