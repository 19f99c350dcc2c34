"""Several devices as one: where every number of a run lies.

The devices form a grid with the axes `data` and `fsdp`. A batch is cut over all of them; what a
run learns, reads and remembers is cut over `fsdp` and gathered where a step uses it, as in ZeRO
(Rajbhandari et al. 2020, arXiv:1910.02054, stage 3) and FSDP. What a program computes does not
change: it still speaks of whole arrays, and the compiler inserts the communication.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from tlx.devices import hosts
from tlx.errors import ConfigError
from tlx.types import AnyBatch, PyTree

if TYPE_CHECKING:
    from tlx.run_file.run_config import MeshConfig

DATA, FSDP = "data", "fsdp"
SMALL = 2**10
"""A leaf of fewer numbers lies whole on every device: gathering it would take longer than the
memory is worth."""


def mesh_of(config: MeshConfig | None, batch_size: int) -> Mesh | None:
    """The grid of devices of a run, None for one device.

    Raises ConfigError where there are too few devices, for a batch that they cannot share, and
    where several processes would not use all of theirs."""
    if config is None:
        if hosts.several():
            raise ConfigError(
                f"{jax.process_count()} processes take part in this run, and its run file has no "
                f"[mesh]. Set data and fsdp in it to a product of {jax.device_count()} devices."
            )
        return None
    # Those of a process lie beside each other, so that it reads one piece of each batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = config.data * config.fsdp
    asked = f"[mesh] data = {config.data}, fsdp = {config.fsdp} asks for {count} devices"
    if count > len(devices):
        raise ConfigError(
            f"{asked}, and there are {len(devices)}. Lower one of them so that their product is at "
            f"most {len(devices)}."
        )
    if hosts.several() and count < len(devices):
        raise ConfigError(
            f"{asked}, and the {jax.process_count()} processes have {len(devices)}. Raise one of "
            f"them so that their product is {len(devices)}, or start fewer processes."
        )
    if batch_size % count:
        near = max(count, round(batch_size / count) * count)
        raise ConfigError(
            f"{asked}, and a batch of {batch_size} pictures cannot be shared evenly by them. Set "
            f"batch_size to a multiple of {count}, such as {near}."
        )
    grid = np.asarray(devices[:count]).reshape(config.data, config.fsdp)
    return Mesh(grid, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def spec(shape: Sequence[int], fsdp: int) -> PartitionSpec:
    """How a leaf of this shape is cut: along its longest axis that `fsdp` divides (the last of
    equals), not at all where there is none or the leaf is small."""
    able = [axis for axis, length in enumerate(shape) if length % fsdp == 0]
    if fsdp == 1 or not able or math.prod(shape) < SMALL:
        return PartitionSpec()
    longest = max(able, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*(FSDP if axis == longest else None for axis in range(len(shape))))


def placed(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same numbers where a run keeps them; every process gives the same ones (see
    `tlx.devices.hosts.same`)."""
    return tree if mesh is None else jax.tree.map(lambda leaf: put(leaf, _kept(leaf, mesh)), tree)


def gathered(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same numbers, whole on every device: for what works outside of a step."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: put(leaf, _whole(mesh)), tree)


def shared(batches: AnyBatch, mesh: Mesh | None, axis: int = 0) -> AnyBatch:
    """Batches on the device, `axis` of each leaf cut over all devices. Each of several processes
    gives its `own` part of them."""
    if mesh is None:
        return jax.device_put(batches)  # `jnp.asarray` runs a program for each shape
    cut = NamedSharding(mesh, PartitionSpec(*(None,) * axis, (DATA, FSDP)))
    if mesh.is_multi_process:
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(cut, leaf), batches)
    return jax.tree.map(lambda leaf: put(leaf, cut), batches)


def own(count: int, mesh: Mesh | None) -> slice:
    """Which rows of a batch of `count` this process reads: all, where it is the only one."""
    if mesh is None:
        return slice(0, count)
    cut = NamedSharding(mesh, PartitionSpec((DATA, FSDP)))
    parts = cut.addressable_devices_indices_map((count,)).values()
    spans = [part[0].indices(count) for part in parts if part is not None]
    return slice(min(span[0] for span in spans), max(span[1] for span in spans))


def fetched(tree: PyTree) -> PyTree:
    """Leaves that are spread over processes, whole on the host of each; others as they are."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=_impl(leaf))
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def alone(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """The same numbers on one device of this process, for what each process does by itself."""
    if mesh is None:
        return tree

    def one(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=_impl(leaf))
        return jnp.asarray(np.asarray(fetched(leaf)))

    return jax.tree.map(one, tree)


def constrained(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Inside of jit: the results lie where `placed` puts them."""
    if mesh is None:
        return tree
    constrain = jax.lax.with_sharding_constraint
    return jax.tree.map(lambda leaf: constrain(leaf, _kept(leaf, mesh)), tree)


def whole(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Inside of jit: gathered for the computation that follows, so that it is the batch over which
    the devices share the work and never the channels of a layer."""
    if mesh is None:
        return tree
    constrain = jax.lax.with_sharding_constraint
    return jax.tree.map(lambda leaf: constrain(leaf, _whole(mesh)), tree)


def rounded(count: int, mesh: Mesh | None) -> int:
    """The least size of a batch of at least `count` that the devices can share."""
    return count if mesh is None else -(-count // mesh.size) * mesh.size


def described(mesh: Mesh | None) -> str:
    """The grid in words; '' for one device."""
    return "" if mesh is None else " × ".join(f"{axis} {mesh.shape[axis]}" for axis in (DATA, FSDP))


def _kept(leaf: Any, mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, spec(leaf.shape, mesh.shape[FSDP]))


def _whole(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put(leaf: Any, sharding: Sharding) -> Any:
    """An array where a sharding says; on several processes each gives the same one."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(_itself, out_shardings=sharding)(leaf)
    numbers = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return jax.make_array_from_callback(numbers.shape, sharding, lambda index: numbers[index])


def _itself(leaf: Any) -> Any:
    return leaf


def _impl(key: Any) -> Any:
    return jax.random.key_impl(key)
