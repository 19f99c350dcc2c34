"""A full memory as a sentence, in the words of whoever noticed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.boundary import told
from tlx.devices.memory import memory_full
from tlx.errors import MemoryFullError


def by_jax():
    jnp.zeros((10**6, 10**6)).block_until_ready()


def by_numpy():
    np.zeros((10**6, 10**7))


def by_python():
    bytearray(10**17)


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (by_jax, r"an array of 4\.0 TB\. Lower batch_size.*accumulate.*bf16.*remat"),
        (by_numpy, r"an array of 72\.8 TiB with the shape \(1000000, 10000000\) of float64\."),
        (by_python, r"no room for an array\. Lower"),
    ],
)
def test_who_is_out_of_memory_says_so(fill, said):
    if fill is by_jax and jax.default_backend() != "cpu":
        pytest.skip("another device words it with its allocator")
    with pytest.raises(MemoryFullError, match=said), told():
        fill()


def test_what_a_gpu_says_is_read():
    said = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
    assert "an array of 17.2 GB." in str(memory_full(RuntimeError(said)))


def test_other_errors_stay_what_they_are():
    assert memory_full(RuntimeError("INVALID_ARGUMENT: no")) is None
    with pytest.raises(KeyError), told():
        raise KeyError("x")
