"""What a user's file does wrong is a sentence with its file and line, wherever it is called."""

import pytest

import tlx
from tlx import registry
from tlx.boundary import told
from tlx.contracts.calls import has_returned
from tlx.errors import ContractError, TlxError

HEAD = """
class Head:
    classes = 10
    needs, selection = ("pooled",), ("accuracy", "max")
    def init(self, rng, features): {init}
    def apply(self, params, state, features, *, inputs, rng, mode): return 0, state
    def loss(self, outputs, batch): return 0
    def predict(self, outputs): return {{}}
    def measure(self, outputs, batch): return {{}}
    def report(self, totals): return {{}}
"""


def head(tmp_path, init):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(init=init))
    return registry.build("heads", f"{path}:Head")


@pytest.mark.parametrize(
    ("init", "said"),
    [
        ("return missing", r"mine\.py \(line 5, in init\) .* NameError: name 'missing'"),
        ("raise SystemExit(3)", r"line 5, in init.*SystemExit: 3"),
    ],
)
def test_what_is_raised_in_a_file_names_its_line(tmp_path, init, said):
    made = head(tmp_path, init)
    with pytest.raises(ContractError, match=said), told():
        made.init(None, {})


def test_what_cannot_be_called_names_the_file(tmp_path):
    made = head(tmp_path, "return 0")
    with pytest.raises(ContractError, match=r"mine\.py defines what cannot be called"), told():
        made.init(None, {}, None)


def test_a_file_that_makes_something_else_is_told_when_it_is_built(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def Net(): return 3\ndef Worse(): return [][1]\n")
    with pytest.raises(ContractError, match=r"made as a int, which has no inputs, features"):
        registry.build("backbones", f"{path}:Net")
    with pytest.raises(ContractError, match=r"fails .*mine\.py, line 2\): IndexError"):
        registry.build("backbones", f"{path}:Worse")


def test_a_run_ends_with_such_a_sentence(tmp_path):
    head(tmp_path, "return 1 / 0")
    config = {
        "name": "x", "steps": 1, "batch_size": 2, "weights": "none", "backbone": "resnet8",
        "data": {"name": "digits", "shots": 1}, "head": f"{tmp_path / 'mine.py'}:Head",
    }  # fmt: skip
    with pytest.raises(TlxError, match=r"mine\.py.*line 5.*ZeroDivisionError"):
        tlx.run(config, out=tmp_path / "out")


def test_what_a_plugin_returns_is_held_against_its_contract():
    with pytest.raises(
        ContractError, match=r"`init` of the head .* has to return .*, and it returns a list of 2"
    ):
        has_returned("`init` of the head", head, [1, 2], False, "tlx.types.Variables")
    has_returned("`init` of the head", head, [1, 2], True, "tlx.types.Variables")


def test_a_member_that_a_file_forgot_names_the_file(tmp_path):
    made = head(tmp_path, "return 0")
    said = r"mine\.py defines Head, which has no 'losses' .*'loss'"
    with pytest.raises(ContractError, match=said), told():
        made.losses(None, {})
