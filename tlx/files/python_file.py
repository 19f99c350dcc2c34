"""A file of Python as a module, with the modules that lie beside it.

`from helper import x` in it means the `helper.py` of its own folder, as for a script. Nothing of
that outlasts the reading: neither the folder on the path nor the helper under its short name, which
the file of another folder may use for a helper of its own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FILE_MODULE = "tlx_file_"
"""How the names begin of modules that are files of a user."""


def module_of(path: Path) -> ModuleType:
    """The module of a file, one per content: two references share it, an edited file is read again.
    Raises what the file raises."""
    stamp = path.stat()
    name = f"{FILE_MODULE}{abs(hash((path, stamp.st_mtime_ns, stamp.st_size))):x}_{path.stem}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # dataclasses look their own module up while it is read
        try:
            with _beside(path.parent, name):
                exec(compile(path.read_bytes(), path, "exec", dont_inherit=True), vars(module))
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


@contextmanager
def _beside(folder: Path, whose: str) -> Iterator[None]:
    """Modules of the folder can be imported by their names, and are put away under another."""
    names = {p.stem for p in folder.glob("*.py")} - set(sys.stdlib_module_names)
    hidden = {n: sys.modules[n] for n in names & sys.modules.keys() if _is_plain(sys.modules[n])}
    for name in hidden:
        del sys.modules[name]
    before = set(sys.modules)
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents and not name.startswith(FILE_MODULE):
                sys.modules[f"{whose}.{name}"] = sys.modules.pop(name)
        sys.modules |= hidden


def _is_plain(module: ModuleType) -> bool:
    return not hasattr(module, "__path__")
