"""Several processes as one run: how they find each other, who writes, what they agree upon.

JAX's own runtime (`jax.distributed`) joins the devices of all hosts, and every process runs the
same programs on its part of each batch. Beside these programs the first process does what is done
once, such as writing, and the others hear how it went; what one alone knows, such as a signal or
the time, counts once all have been asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tlx import errors
from tlx.errors import ConfigError, HostsError, TlxError
from tlx.types import PyTree

if TYPE_CHECKING:
    from tlx.run_file.run_config import MeshConfig

ADDRESS, COUNT, NUMBER = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
PATIENCE = 5000
"""Milliseconds for which a process that failed waits for the others to fail, too."""
Outcome = TypeVar("Outcome")


def join(config: MeshConfig | None) -> None:
    """Become one of several processes where `[mesh]` asks for `hosts` or `JAX_COORDINATOR_ADDRESS`
    is set; once in a process, before its devices are used. It leaves when it ends.

    What the three variables do not say is JAX's to find out (SLURM, Kubernetes, TPU, Open MPI).
    Raises ConfigError for variables that are no numbers, HostsError where the others cannot be
    found."""
    asked = config is not None and (config.hosts or ADDRESS in os.environ)
    if config is None or not asked or jax.distributed.is_initialized():
        return
    count, number = _whole(COUNT), _whole(NUMBER)
    said = ADDRESS in os.environ and count is not None and number is not None
    # It would take SIGTERM for itself, which is ours: see `tlx.training.interrupt`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            num_processes=count,
            process_id=number,
            cluster_detection_method="deactivate" if said else None,
            heartbeat_timeout_seconds=config.heartbeat_seconds,
            shutdown_timeout_seconds=config.heartbeat_seconds,
        )
    except (RuntimeError, ValueError) as error:
        raise HostsError(
            f"The other hosts of this run cannot be joined: {_first_line(error)} Start it in the "
            f"same way on each of them with a launcher that JAX knows, such as srun, or set "
            f"{ADDRESS} (host:port of the first), {COUNT} and {NUMBER} (from 0)."
        ) from error
    _acquaint()


def several() -> bool:
    """Whether this process is one of several; asking does not start jax's backend."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether it is this process that writes and speaks."""
    return not several() or jax.process_index() == 0


def once(act: Callable[[], Outcome]) -> Outcome:
    """What `act` returns (plain data) when the first process calls it, for all processes; none goes
    on before. What it raises, all raise."""
    if not several():
        return act()
    outcome: dict[str, Any] = {}
    failure: Exception | None = None
    if first():
        try:
            outcome["value"] = act()
        except Exception as error:
            failure = error
            outcome["error"] = type(error).__name__, str(error)
    outcome = json.loads(_told(json.dumps(outcome).encode()))
    if failure is not None:
        raise failure
    if "error" in outcome:
        kind, text = outcome["error"]
        known = getattr(errors, kind, None)
        if isinstance(known, type) and issubclass(known, TlxError):
            raise known(text)
        raise HostsError(f"The first process failed: {kind}: {text}")
    return outcome["value"]


def anywhere(flag: bool) -> bool:
    """Whether it is so in any process."""
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag)))) if several() else flag


def agreed(tree: PyTree) -> PyTree:
    """The first process's numbers for all, bit by bit: of what each has computed for itself, and
    may have rounded in its own way. Arrays on the host or on one device, and on the host after."""
    if not several():
        return tree

    def one(leaf: Any) -> Any:
        own = np.asarray(leaf)
        raw = np.frombuffer(own.tobytes(), np.uint8)
        found = multihost_utils.broadcast_one_to_all(raw) if raw.size else raw
        return np.frombuffer(found.tobytes(), own.dtype).reshape(own.shape)

    return jax.tree.map(one, tree)


def same(what: str, of: Callable[[], bytes]) -> None:
    """Refuse to go on where the processes do not have the same: `of()` is what they compare."""
    if not several():
        return
    digest = np.frombuffer(hashlib.sha256(of()).digest(), np.uint8)
    found = multihost_utils.process_allgather(digest)
    if others := np.flatnonzero((found != found[0]).any(axis=1)).tolist():
        raise ConfigError(
            f"The processes of this run do not have the same {what}: process {others[0]} differs "
            f"from process 0. Start all of them with the same command, versions and files."
        )


def lost(error: Exception) -> HostsError:
    """What to say of an error of the runtime in a run of several processes."""
    return HostsError(
        f"Another host of this run has gone, or the way to it: {_first_line(error)} What was saved "
        f"is kept. Start all hosts again with --resume."
    )


def leave(code: int) -> None:
    """After a failure: return where all processes have failed, else end this one at once with the
    exit code `code`, because those that still work can notice that and not that it waits."""
    if not several():
        return
    from orbax.checkpoint import multihost

    try:
        multihost.get_barrier_sync_fn()(key="tlx-leave", timeout_ms=PATIENCE)
    except Exception:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _acquaint() -> None:
    """Let all devices meet while all processes are here: later one may be busy for longer than the
    half minute for which the others wait at a first meeting."""
    everywhere = NamedSharding(Mesh(np.asarray(jax.devices()), "all"), PartitionSpec("all"))
    ones = np.ones(jax.local_device_count(), np.float32)
    jax.jit(jnp.sum)(jax.make_array_from_process_local_data(everywhere, ones)).block_until_ready()
    anywhere(False)


def _told(content: bytes) -> bytes:
    """What the first process gives, in all of them."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    room = np.zeros(-(-length // 1024) * 1024, np.uint8)  # few sizes, few programs
    if first():
        room[:length] = np.frombuffer(content, np.uint8)
    return multihost_utils.broadcast_one_to_all(room).tobytes()[:length]


def _whole(variable: str) -> int | None:
    text = os.environ.get(variable)
    if text is None or text.isdecimal():
        return text if text is None else int(text)
    raise ConfigError(f"{variable} is {text!r}; it is a whole number, from 0.")


def _first_line(error: Exception) -> str:
    line = str(error).strip().split("\n")[0]
    return line if line.endswith(".") else f"{line}."
