"""Benchmarks and examples are run by hand and seldom; that what they import and call is there is
seen at once, without importing what they measure beside tlx."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("examples/**/*.py")])


def imported(tree):
    """Name in the file -> what of tlx or of its plugins it is."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tlx"):
            module = importlib.import_module(node.module)
            for each in node.names:
                if not hasattr(module, each.name):
                    importlib.import_module(f"{node.module}.{each.name}")
                found[each.asname or each.name] = getattr(module, each.name)
        elif isinstance(node, ast.Import):
            for each in node.names:
                if each.name.startswith("tlx"):
                    importlib.import_module(each.name)
    return found


def refuse_calls(tree, known):
    """Call each function with as many arguments and with the names that the file gives it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        function, names = known.get(node.func.id), [each.arg for each in node.keywords]
        starred = None in names or any(isinstance(each, ast.Starred) for each in node.args)
        if inspect.isfunction(function) and not starred:
            inspect.signature(function).bind(*node.args, **dict.fromkeys(names))


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_what_a_file_imports_of_tlx_is_there_and_called_as_it_is(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    refuse_calls(tree, imported(tree))


def test_a_call_that_does_not_fit_is_seen():
    known = imported(tree := ast.parse("from tlx.trees import flat\nflat(1, odd=2)"))
    with pytest.raises(TypeError, match="odd"):
        refuse_calls(tree, known)
    with pytest.raises(ImportError):
        imported(ast.parse("from tlx.trees import nothing_of_this_name"))
