"""Where in a checkpoint the state dict is: the dict of tensors by name that a network is made of.

Some files are one; training scripts put it beside an optimizer, an average or a teacher, under a
name of their own choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from tlx.errors import Refused, did_you_mean, listed
from tlx_weights.pickled_arrays import PickledArray
from tlx_weights.torch_tensors import Strided

WHOLE = "."
"""The key of the checkpoint itself."""
USUAL = (
    "state_dict", "model", "model_state", "model_state_dict", "net", "network", "module",
    "weights", "params", "backbone", "teacher", "student", "ema", "model_ema", "ema_state_dict",
    "state_dict_ema", "params_ema", "generator",
)  # fmt: skip
"""Where training scripts put the network; one of these is chosen before what lies elsewhere."""
DEEPEST = 6
SHOWN = 8


def state_dict(tree: Any, key: str = "") -> Mapping[str, Strided | PickledArray]:
    """The tensors by name at `key`, a path with dots ("teacher", "model.state_dict", "." for the
    whole), or where there is only one place for them.

    What else stands in that dict (a step, a name) is no tensor and left out."""
    if isinstance(tree, Strided):
        raise Refused("holds one tensor without a name. Save a dict of tensors.")
    found = _places(tree)
    if not found:
        raise Refused("holds no tensors by name. Save a network's state_dict() in PyTorch.")
    if key:
        if key not in found:
            raise Refused(
                f"has no tensors at key = {key!r}. They are at {_listed(found)}."
                f"{did_you_mean(key, found)}"
            )
        return found[key]
    usual = [place for place in found if place.split(".")[0] in USUAL]
    choice = usual or list(found)
    if len(choice) > 1:
        raise Refused(
            f"holds tensors at {len(choice)} places: {_listed(choice)}. Say which are meant, like "
            f'key = "{choice[0][:80]}". On the command line that is --key.'
        )
    return found[choice[0]]


def has_tensors(tree: Any) -> bool:
    """Whether there are tensors by name anywhere."""
    return bool(_places(tree))


def _places(tree: Any) -> dict[str, dict[str, Strided | PickledArray]]:
    """Path -> tensors of every dict that has some, nearest to the top first. Each dict counts
    once, so one that holds itself does no harm."""
    found: dict[str, dict[str, Strided | PickledArray]] = {}
    waiting, seen = deque([("", tree, 0)]), {id(tree)}
    while waiting:
        path, node, depth = waiting.popleft()
        if type(node) is not dict:
            continue
        named = {name: value for name, value in node.items() if type(name) is str}
        tensors = {
            name: value
            for name, value in named.items()
            if isinstance(value, Strided | PickledArray)
        }
        if tensors:
            found[path or WHOLE] = tensors
        for name, value in named.items():
            if type(value) is dict and id(value) not in seen and depth < DEEPEST:
                seen.add(id(value))
                waiting.append((f"{path}.{name}" if path else name, value, depth + 1))
    return found


def _listed(places: Any) -> str:
    shown = [repr(place[:80]) for place in places]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return listed(shown[:SHOWN]) + more
