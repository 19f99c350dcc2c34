"""Groups, arrays and lists of words of an HDF5 file from a stranger.

Nothing outside of the file is reached: a group is entered, and an array read, by its own name
only (no soft and no external links, no numbers kept in other files). None is read twice, and none
may be larger than its stored bytes can justify.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import h5py
import ml_dtypes
import numpy as np
from h5py import h5t

from tlx.errors import Refused

MOST_FROM_ONE = 1032
"""Bytes that DEFLATE makes of one stored byte at the most (zlib, "Maximum Compression Factor");
the filters that HDF5 has beside it are below."""
HARD_LINK = 0
"""H5L_TYPE_HARD of HDF5's C interface: a name of what lies in the file itself."""
LONGEST = 2**20
"""Words in an attribute."""

Node: TypeAlias = "h5py.Group | h5py.Dataset"


@final
@dataclass(frozen=True)
class Reader:
    """Reads one file of `size` bytes, remembering what it has been at."""

    size: int
    _seen: set[Any] = field(default_factory=set)

    def names(self, group: h5py.Group) -> list[str]:
        """What a group holds, by name."""
        return [str(name) for name in group]

    def has(self, group: h5py.Group, name: str) -> bool:
        """Whether a group holds anything under a name. (`name in group` would follow links.)"""
        return group.id.links.exists(name.encode())

    def child(self, group: h5py.Group, name: str) -> Node:
        """What a group holds under a name."""
        where = f"{str(group.name).rstrip('/')}/{name}"[-80:]
        if name in ("", ".") or "/" in name or not self.has(group, name):
            raise Refused(f"has no {where!r}, which it says it has. Fetch it again.")
        if group.id.links.get_info(name.encode()).type != HARD_LINK:
            raise Refused(
                f"holds {where!r} as a link to another place. It was not followed; save the "
                f"weights themselves."
            )
        node = group[name]
        if not isinstance(node, h5py.Group | h5py.Dataset):
            raise Refused(f"holds {where!r}, which is no array and no group.")
        return node

    def group(self, group: h5py.Group, path: str) -> h5py.Group:
        """The group that a group holds under a path of one or several names."""
        for name in path.split("/"):
            node = self.child(group, name)
            if not isinstance(node, h5py.Group):
                raise Refused(f"holds {str(node.name)[-80:]!r} as an array instead of a group.")
            group = node
        return group

    def at(self, group: h5py.Group, path: str) -> np.ndarray:
        """The numbers of the array that a group holds under a path."""
        above, slash, last = path.rpartition("/")
        return self.array(self.child(self.group(group, above) if slash else group, last))

    def enter(self, node: Node) -> None:
        """Note that a group or array is being read; groups that contain themselves, and arrays
        under many names, end here."""
        # Identifiers are equal where they mean the same object of the same file.
        if node.id in self._seen:
            raise Refused(f"holds {str(node.name)[-80:]!r} under two names, so that it never ends.")
        self._seen.add(node.id)

    def array(self, dataset: Node) -> np.ndarray:
        """The numbers of an array."""
        name = str(dataset.name)[-80:]
        if not isinstance(dataset, h5py.Dataset):
            raise Refused(f"holds {name!r} as a group instead of an array.")
        self.enter(dataset)
        if dataset.shape is None or dataset.is_virtual or dataset.external:
            raise Refused(f"keeps the numbers of {name!r} elsewhere. Nothing else was opened.")
        brain = dataset.dtype == np.dtype("V2") and self.word(dataset, "dtype") == "bfloat16"
        if dataset.dtype.kind not in "fiub" and not brain:
            raise Refused(f"holds {name!r} of type {dataset.dtype}, which is no array of numbers.")
        stored = dataset.id.get_storage_size()
        most = stored * (1 if dataset.chunks is None else MOST_FROM_ONE)
        if stored > self.size or dataset.nbytes > most:
            raise Refused(
                f"is damaged, or made to fill the memory: {name!r} claims {dataset.nbytes} bytes "
                f"and {stored} of the {self.size} in the file are its own."
            )
        values = np.asarray(dataset[()])
        return values.view(ml_dtypes.bfloat16) if brain else values

    def word(self, node: Node, name: str) -> str:
        """An attribute that is one word; empty where there is none."""
        return next(iter(self._attribute(node, name)), "")

    def words(self, node: Node, name: str) -> list[str]:
        """An attribute that is a list of words; a long one lies in pieces `name0`, `name1`, ..."""
        if name in node.attrs:
            return self._attribute(node, name)
        found: list[str] = []
        piece = 0
        while f"{name}{piece}" in node.attrs:
            found += self._attribute(node, f"{name}{piece}")
            piece += 1
        return found

    def _attribute(self, node: Node, name: str) -> list[str]:
        if name not in node.attrs:
            return []
        stored = node.attrs.get_id(name)
        if not isinstance(stored.get_type(), h5t.TypeStringID):
            # Read as anything else, damaged bytes make the library crash. (A list without members
            # is written as one of floats.)
            if math.prod(stored.shape) == 0:
                return []
            raise Refused(f"is damaged: {name!r} holds no words.")
        if math.prod(stored.shape) > LONGEST:
            raise Refused(f"claims more than {LONGEST} words in {name!r}. Fetch it again.")
        value: Any = node.attrs[name]
        flat = np.atleast_1d(np.asarray(value)).ravel().tolist()
        return [w.decode() if isinstance(w, bytes) else str(w) for w in flat]
