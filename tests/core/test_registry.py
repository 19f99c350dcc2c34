"""Plugins found from metadata, broken ones, and names claimed twice."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest

from tlx import registry
from tlx.contracts.options import check_options, schema
from tlx.errors import ConfigError, ContractError, PluginError

HEADS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
if TYPE_CHECKING:
    from nowhere import Array

@dataclass(frozen=True)
class Linear:
    classes: int
    bias: bool = True
    sizes: tuple[int, ...] = ()
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    where: Array | None = None

    def __post_init__(self):
        if self.rate > 1:
            raise ValueError("rate is a share")

    needs, selection = ("pooled",), ("accuracy", "max")
    def init(self, *features): ...
    apply = loss = predict = measure = report = init
"""
SETS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Many:
    info: str
    size: int
    def split(self, name): ...

def many(name: str, size: int = 3): return Many(name, size)
def none(): return 0
"""


@pytest.fixture
def heads(install, request):
    module = f"fake_{request.node.name.split('[')[0]}"
    install("tlx-fake", {"heads": {"linear": f"{module}:Linear"}}, **{module: HEADS})
    return module


def test_find_reads_metadata_alone(heads):
    (plugin,) = registry.find("heads")
    assert plugin == registry.Plugin("heads", "linear", f"{heads}:Linear", "tlx-fake", "1.0")
    assert registry.find() == (plugin,)
    assert registry.find("backbones") == ()
    assert heads not in sys.modules
    registry.load("heads", "linear")
    assert heads in sys.modules


def test_other_entry_points_are_not_ours(install):
    install("a", {"colours": {"red": "a:Red"}, "sinks": {"log": "a:Log"}})
    assert [p.kind for p in registry.find()] == ["sinks"]


def test_an_unknown_kind_gets_a_hint():
    with pytest.raises(PluginError, match="Did you mean 'backbones'"):
        registry.find("backbone")


def test_the_same_claim_twice_counts_once(install):
    install("a", {"sinks": {"log": "mod:Log"}})
    install("a", {"sinks": {"log": "mod:Log"}}, version="0.9", place="older")
    install("a-copy", {"sinks": {"log": "mod:Log"}}, place="copy")
    found = [(p.distribution, p.version) for p in registry.find()]
    assert sorted(found) == [("a", "1.0"), ("a-copy", "1.0")]
    assert registry.choose("sinks", "a-copy/log").distribution == "a-copy"
    with pytest.raises(PluginError, match="claimed by 2 distributions"):
        registry.choose("sinks", "log")


def test_an_older_copy_further_down_the_path_is_not_seen(install):
    install("a", {"sinks": {"log": "new:Log"}})
    install("A", {"sinks": {"log": "old:Log"}}, version="0.9", place="older")
    assert [p.value for p in registry.find()] == ["new:Log"]


def test_a_name_claimed_twice_must_be_chosen(install):
    install("one", {"heads": {"linear": "one_linear:Linear"}}, one_linear=HEADS)
    install("the_two", {"heads": {"linear": "two_linear:Linear"}}, two_linear=HEADS)
    with pytest.raises(
        PluginError, match=r"one 1\.0.*the_two 1\.0.*'one/linear' or 'the_two/linea"
    ):
        registry.load("heads", "linear")
    assert registry.load("heads", "The-Two/linear").__module__ == "two_linear"
    assert all("claimed by 2" in why for _, why in registry.status("heads", imported=False))
    assert "two_linear" in sys.modules
    assert "one_linear" not in sys.modules


def test_a_misspelt_name_says_what_is_installed(heads):
    with pytest.raises(PluginError, match=r"No head 'liner'.*'linear'\? Installed heads: linear"):
        registry.load("heads", "liner")
    with pytest.raises(PluginError, match="'tlx-fake/linear'"):
        registry.load("heads", "tlx-fak/linear")
    with pytest.raises(PluginError, match="Installed sinks: none"):
        registry.load("sinks", "html")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("x = 1\ny = x / 0", r"ZeroDivisionError: division by zero \(.*line 2\)"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("", "AttributeError"),
        ("Linear = 3", "names 3, which is no factory"),
    ],
)
def test_a_broken_plugin_is_listed_and_harms_nothing_else(heads, install, source, reason, request):
    module = f"broken_{abs(hash(source))}"
    install("tlx-broken", {"heads": {"bad": f"{module}:Linear"}}, **{module: source})
    assert [p.name for p in registry.find("heads")] == ["bad", "linear"]
    assert registry.build("heads", "linear", {"classes": 2}).classes == 2
    ((plugin, why),) = registry.broken()
    assert plugin.name == "bad"
    with pytest.raises(PluginError, match=reason) as caught:
        registry.load("heads", "bad")
    assert str(caught.value) == why
    assert [why == "" for _, why in registry.status()] == [False, True]


def test_an_object_in_a_file_needs_no_packaging(tmp_path, monkeypatch, install):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(HEADS + "\nclass Outer:\n    Inner = Linear\n")
    built = registry.build("heads", "mine.py:Linear", {"classes": 3})
    assert built.classes == 3
    assert type(built) is registry.load("heads", "./mine.py:Outer.Inner")
    Path("mine.py").write_text(HEADS.replace("bias: bool = True", "bias: bool = False"))
    assert registry.build("heads", "mine.py:Linear", {"classes": 3}).bias is False
    with pytest.raises(PluginError, match=r"has no 'Liner'. Did you mean 'Linear'"):
        registry.load("heads", "mine.py:Liner")
    with pytest.raises(PluginError, match=r"'mine\.py:Object'"):
        registry.load("heads", "mine.py")
    with pytest.raises(PluginError, match=r"yours\.py, which does not exist"):
        registry.load("heads", "yours.py:Linear")
    Path("bad.py").write_text("x = 1\nx.y")
    with pytest.raises(PluginError, match=r"AttributeError: .*bad.py, line 2"):
        registry.load("heads", "bad.py:Linear")


def test_what_follows_a_scheme_is_the_first_option(install):
    install(
        "d", {"datasets": {"many": "many_sets:many", "none": "many_sets:none"}},
        many_sets=SETS,
    )  # fmt: skip
    made = registry.build("datasets", "many:a/b:c", {"size": 4})
    assert (made.info, made.size) == ("a/b:c", 4)
    assert registry.build("datasets", "d/many:x").size == 3
    with pytest.raises(ConfigError, match=r"data.name: is already said after ':'"):
        registry.build("datasets", "many:x", {"name": "y"}, where="data")
    with pytest.raises(PluginError, match="takes no options"):
        registry.build("datasets", "none:x")
    with pytest.raises(ConfigError, match="name: is required"):
        registry.build("datasets", "many")


def test_a_bare_function_of_words_is_a_divergence(install):
    install(
        "d", {"divergences": {"bare": "bare_words:bare", "made": "bare_words:made"}},
        bare_words="def bare(*, params, source_params): return 0\n"
        "class Made(tuple):\n    def __call__(self, *, params): return 0\n"
        "def made(power: int = 2): return Made((bare, power))",
    )  # fmt: skip
    bare = registry.build("divergences", "bare")
    assert set(inspect.signature(bare).parameters) == {"params", "source_params"}
    assert registry.build("divergences", "made", {"power": 3}) == (bare, 3)
    with pytest.raises(ConfigError, match="It takes no options"):
        registry.build("divergences", "bare", {"power": 3})


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("heads", HEADS.replace("def init", "def inti"), r"no 'init' as .* mean 'inti'"),
        (
            "strategies",
            "class Linear:\n    def phase(self): ...",
            "no 'init', 'phases' as",
        ),
        ("sinks", "class Linear:\n    def emit(self, event): ...", r"no 'close' as"),
        ("datasets", "class Linear:\n    info = split_ = 3", r"no 'split' as .* mean 'split_'"),
        ("augmentations", "class Linear: ...", "Linear, which has no '__call__'"),
    ],
)
def test_what_lacks_a_member_names_distribution_class_and_member(install, kind, code, said):
    module = f"lacking_{kind}"
    code = code.replace("= report = init", "= report = inti")
    install("tlx-short", {kind: {"short": f"{module}:Linear"}}, **{module: code})
    given = {"classes": 2} if kind == "heads" else {}
    with pytest.raises(ContractError, match=said) as caught:
        registry.build(kind, "short", given)
    assert "'short' of tlx-short 1.0 is made as Linear" in str(caught.value)


def test_a_property_is_not_computed_to_see_whether_it_is_there(install):
    code = "class Late:\n    @property\n    def info(self): 1 / 0\n    def split(self, name): ...\n"
    install("tlx-late", {"datasets": {"late": "late_data:Late"}}, late_data=code)
    assert type(registry.build("datasets", "late")).__name__ == "Late"


def test_build_coerces_and_offers(heads):
    built = registry.build("heads", "linear", {"sizes": [1, 2], "rate": 1}, {"classes": 4, "x": 1})
    assert (built.classes, built.sizes, built.rate) == (4, (1, 2), 1.0)
    assert isinstance(built.rate, float)
    assert registry.build("heads", "linear", {"classes": 5}, {"classes": 4}).classes == 5
    with pytest.raises(ConfigError, match="refused its options: rate is a share"):
        registry.build("heads", "linear", {"rate": 2.0}, {"classes": 4})


def test_all_problems_of_the_options_at_once(heads):
    wrong = {"bais": True, "sizes": [1, "2"], "rate": "fast", "kind": "c", "bias": 1}
    with pytest.raises(ConfigError) as caught:
        registry.build("heads", "linear", wrong, where="head")
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == [
        "head.bais", "head.sizes.1", "head.rate", "head.kind", "head.bias", "head.classes",
    ]  # fmt: skip
    assert "Did you mean 'bias'? It takes classes (int), bias (bool = True)" in lines[0]
    assert lines[3].endswith("should be 'a' or 'b', not \"c\".")


def test_schema_reads_the_signature():
    def factory(a: int, b="x", *more: int, c: float | None = None, **rest: str) -> None: ...

    assert [(o.name, o.required) for o in schema(factory)] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert str(schema(factory)[1]) == "b (Any = 'x')"
    assert check_options(factory, {"a": 1, "anything": 2}) == []
    assert check_options(factory, {"c": "x"}, given=("a",)) == [
        'c: should be a valid number, not "x".'
    ]
    assert [p.split(":")[0] for p in check_options(factory, {"c": "x", "a": 1.5}, (), "head")] == [
        "head.c",
        "head.a",
    ]


class Thing: ...


def test_options_that_only_python_has_pass():
    def factory(thing: Thing, call: object = None): ...

    assert check_options(factory, {"thing": Thing(), "call": print}) == []
    (problem,) = check_options(factory, {"thing": 3})
    assert problem.startswith("thing: should be an instance of")


def test_a_damaged_distribution_harms_no_other_and_is_named(install, heads):
    for number, text in enumerate(
        [b"[tlx.heads]\ng = \xff:D\n", b"[tlx.heads]\nnothing\na = b:C\n"]
    ):
        site = install(f"bad{number}", {}, place=f"bad{number}")
        (site / f"bad{number}-1.0.dist-info/entry_points.txt").write_bytes(text)
    site = install("bare", {"heads": {"x": "bare:D"}}, place="bare")
    (site / "bare-1.0.dist-info/METADATA").unlink()
    install("typo", {"divergence": {"mine": "typo:D"}})
    assert [p.reference for p in registry.find()] == ["bad1/a", "tlx-fake/linear", "bare/x"]
    said = " ".join(registry.damage())
    for words in ("bad0-1.0.dist-info", "no 'name = module:object': nothing", "bare-1.0.dist-info"):
        assert words in said
    assert "'mine' in a group that nobody reads, [tlx.divergence]. Did you mean 'tlx.div" in said


def test_a_helper_beside_a_file_is_its_own(tmp_path):
    path = list(sys.path)
    for name, value in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "helper.py").write_text(f"VALUE = {value}")
        (folder / "net.py").write_text("from helper import VALUE\ndef made(): return VALUE")
    assert [registry.load("heads", f"{tmp_path}/{n}/net.py:made")() for n in "ab"] == [1, 2]
    assert sys.path == path
    assert "helper" not in sys.modules
