"""Files of leaves as Equinox writes them, and such as nobody should believe."""

import io

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from tlx import registry
from tlx.errors import WeightsError


def read(tmp_path, data):
    (tmp_path / "x.eqx").write_bytes(data)
    return registry.build("weights", "equinox", {"path": str(tmp_path / "x.eqx")}).tensors().values


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("line", [b"", b'{"width": 3}\n'])
def test_leaves_have_numbers(tmp_path, line):
    stream = io.BytesIO(line)
    stream.seek(0, 2)
    leaves = [jnp.ones((2, 3), jnp.bfloat16), 0.5, True, "text", np.arange(4), None, jnp.zeros(())]
    eqx.tree_serialise_leaves(stream, leaves)
    found = read(tmp_path, stream.getvalue())
    assert [*found] == [f"leaves/{n}" for n in range(5)]
    assert found["leaves/0"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["leaves/3"], np.arange(4))
    assert (found["leaves/1"], found["leaves/4"].shape) == (0.5, ())


GOOD = npy(np.arange(4.0))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins neither with an array"),
        (b"{}\n" + b"x" * 99, "begins neither with an array"),
        (b"{" * 99, "begins neither with an array"),
        (GOOD[:-3], "has 29|and has"),
        (GOOD[:50], "no header of an array"),
        (GOOD + b"more", "no header of an array"),
        (npy(np.array([{}], object)), "pickled objects"),
        (GOOD.replace(b"(4,)", b"(-4)"), "damaged"),
        (GOOD.replace(b"(4,), }" + b" " * 12, b"(999999999999,), }  "[:19]), "damaged|cannot"),
    ],
)
def test_what_is_not_believed(tmp_path, data, said):
    with pytest.raises(WeightsError, match=said):
        read(tmp_path, data)
