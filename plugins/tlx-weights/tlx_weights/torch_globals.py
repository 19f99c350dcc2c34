"""The Python names that the pickle of a PyTorch checkpoint may hold, and the data they stand for.

None of them is imported and none is called: a name stands for an entry of the table here. Tensors
and containers become what they are, and so do NumPy arrays. What training leaves beside them
(arguments, counters, NumPy numbers) is known by name only and kept as an `Inert`, so that whole
checkpoints can be read. Every other name is refused, harmless or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, final

import numpy as np

from tlx.errors import Refused
from tlx_weights.pickled_arrays import (
    PickledArray,
    PickledBytes,
    PickledType,
    from_buffer,
    of_jax,
)
from tlx_weights.torch_tensors import STORAGES, TYPES, StorageType, Strided, strided

KEYS = (str, bytes, int, bool, type(None))
"""Types of the keys of a dict. A tuple is none: hashing nested ones recurses."""
MOST_ARGUMENTS = 16


@final
class Inert(NamedTuple):
    """Something that is no weight, of which only the name is known."""

    name: str


@final
class Maker(NamedTuple):
    """What stands for a function or class; `make` is ours and takes the same arguments."""

    make: Callable[..., Any]


def named(module: object, name: object) -> Any:
    """What a Python name stands for; Refused where it is not in the table."""
    full = f"{module}.{name}"
    if type(module) is not str or type(name) is not str or full not in NAMES:
        raise Refused(
            f"asks for the Python object {full[:80]!r}, which is neither a tensor nor a container. "
            f"Nothing in it was executed. If you trust who made it, load it in PyTorch and save "
            f"only its state_dict()."
        )
    return NAMES[full]


def called(function: object, arguments: object) -> Any:
    """What calling a name from the table stands for."""
    if not isinstance(function, Maker) or type(arguments) is not tuple:
        raise Refused("is damaged: it calls something that is no function.")
    if len(arguments) > MOST_ARGUMENTS:
        raise Refused(f"is damaged: it calls a function with {len(arguments)} arguments.")
    return function.make(*arguments)


def pairs(keys: Iterable[Any], values: Iterable[Any]) -> dict[Any, Any]:
    """A dict of keys that are plain; others could be made slow or deep to hash."""
    found = dict[Any, Any]()
    for key, value in zip(keys, values, strict=True):
        if type(key) not in KEYS or (type(key) is int and not -(2**63) <= key < 2**64):
            raise Refused(f"holds a dict with a key that is a {type(key).__name__}, not a name.")
        found[key] = value
    return found


def _ordered(items: object = None) -> dict[Any, Any]:
    """OrderedDict(), or OrderedDict([[key, value], ...]) as Python 2 wrote it."""
    if items is None:
        return {}
    if type(items) is not list or not all(type(i) in (list, tuple) and len(i) == 2 for i in items):
        raise Refused("is damaged: an OrderedDict in it is made of something else than pairs.")
    found = pairs([key for key, _ in items], [value for _, value in items])
    items.clear()  # or a pickle could make a second dict of the same pairs, and a thousandth
    return found


def _size(sizes: object) -> tuple[Any, ...]:
    if type(sizes) is not tuple:
        raise Refused("is damaged: a torch.Size in it is made of something else than a tuple.")
    return sizes


def _plain_metadata(metadata: object) -> None:
    if metadata:
        raise Refused(
            "holds a conjugated or negated view. Save it in PyTorch with .resolve_conj()."
        )


def _tensor(storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> Strided:
    return strided(storage, offset, size, strides)


def _tensor_v2(
    storage: Any, offset: Any, size: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None
) -> Strided:
    _plain_metadata(metadata)
    return strided(storage, offset, size, strides)


def _tensor_v3(
    storage: Any,
    offset: Any,
    size: Any,
    strides: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Strided:
    _plain_metadata(metadata)
    if not isinstance(dtype, np.dtype):
        raise Refused("is damaged: a tensor in it has no type.")
    return strided(storage, offset, size, strides, dtype)


def _parameter(data: Any, *_: Any) -> Strided:
    if not isinstance(data, Strided):
        raise Refused("is damaged: a parameter in it is no tensor.")
    return data


def _subclassed(function: Any, kind: Any, arguments: Any, state: Any) -> Strided:
    """A tensor that carries attributes, which are dropped."""
    if function not in (NAMES["torch._utils._rebuild_tensor_v2"], NAMES[_V3]):
        raise Refused("holds a tensor of a kind of its own. Save it in PyTorch as a plain one.")
    return called(function, arguments)


_V3 = "torch._utils._rebuild_tensor_v3"
_BESIDE_WEIGHTS = (
    "argparse.Namespace",
    "collections.Counter",
    "__builtin__.set",
    "builtins.set",
    "__builtin__.frozenset",
    "builtins.frozenset",
    "__builtin__.list",
    "builtins.list",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.device",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
)


def _inert(name: str) -> Maker:
    return Maker(lambda *_: Inert(name))


NAMES: Mapping[str, Any] = {
    "collections.OrderedDict": Maker(_ordered),
    "collections.defaultdict": Maker(lambda *_: {}),
    "torch.Size": Maker(_size),
    "torch._utils._rebuild_tensor": Maker(_tensor),
    "torch._utils._rebuild_tensor_v2": Maker(_tensor_v2),
    _V3: Maker(_tensor_v3),
    "torch._utils._rebuild_parameter": Maker(_parameter),
    "torch._utils._rebuild_parameter_with_state": Maker(_parameter),
    "torch._tensor._rebuild_from_type_v2": Maker(_subclassed),
    "torch.storage.UntypedStorage": StorageType(np.dtype("u1")),
    **{f"torch.{name}": StorageType(dtype) for name, dtype in STORAGES.items()},
    **{f"torch.{name}": dtype for name, dtype in TYPES.items()},
    "_codecs.encode": Maker(PickledBytes),
    "__builtin__.bytes": Maker(lambda: PickledBytes("")),  # as protocol 2 writes no bytes
    "numpy.dtype": Maker(PickledType),
    "numpy.core.multiarray._reconstruct": Maker(lambda *_: PickledArray()),
    "numpy._core.multiarray._reconstruct": Maker(lambda *_: PickledArray()),
    "jax._src.array._reconstruct_array": Maker(of_jax),
    "numpy.core.numeric._frombuffer": Maker(from_buffer),
    "numpy._core.numeric._frombuffer": Maker(from_buffer),
    **{name: _inert(name) for name in _BESIDE_WEIGHTS},
}
"""Every Python name that is understood."""
