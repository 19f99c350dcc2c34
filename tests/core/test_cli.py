"""The command line: what it prints, its exit codes, and what it does not import."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tlx
from tlx import cli, config
from tlx.errors import DataError, DivergedError, Interrupted
from tlx.run_file import finetune

HEAVY = ("jax", "numpy", "pydantic", "importlib.metadata", "rich", "difflib")


def modules_after(*arguments: str, cwd: Path) -> tuple[int, set[str], str]:
    """(exit code, modules in memory, stderr) of a command in an interpreter of its own."""
    script = (
        "import sys, tlx.cli\n"
        "try: code = tlx.cli.main(sys.argv[1:])\n"
        "except SystemExit as e: code = e.code\n"
        "print('\\n' + ' '.join([str(code), *sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=cwd
    )
    assert done.stdout, done.stderr
    code, *modules = done.stdout.splitlines()[-1].split()
    return int(code), set(modules), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["run", "--help"], ["weights", "--help"],
        ["weights", "verify", "--help"], ["export", "--help"],
    ],
)  # fmt: skip
def test_help_imports_next_to_nothing(arguments, tmp_path):
    code, modules, _ = modules_after(*arguments, cwd=tmp_path)
    assert code == 0
    assert not modules & set(HEAVY)
    assert {m for m in modules if m.startswith("tlx")} == {
        "tlx",
        "tlx.cli",
        "tlx.commands",
        "tlx.commands.audit",
        "tlx.commands.data",
        "tlx.commands.options",
        "tlx.commands.predict",
        "tlx.commands.rank",
        "tlx.commands.weights",
    }


def test_plugins_are_listed_without_importing_them(tmp_path):
    code, modules, _ = modules_after("plugins", "--json", cwd=tmp_path)
    assert code == 0
    assert not modules & {"jax", "numpy", "pydantic"}
    assert {m.partition(".")[0] for m in modules if m.startswith("tlx")} == {"tlx"}


@pytest.mark.parametrize("verb", ["run", "show"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('data = "digitz"\nbackbone = "nope"', "No backbone 'nope' is installed."),
        ('data = "d"\nbackbone = "b"\noptimiser = {}', "Did you mean 'optimizer'?"),
        ("data = = 1", "line 1"),
    ],
)
def test_a_mistake_in_a_run_file_is_answered_before_jax(verb, text, sentence, tmp_path):
    (tmp_path / "run.toml").write_text(text)
    code, modules, stderr = modules_after(verb, "run.toml", cwd=tmp_path)
    assert code == 2
    assert stderr.startswith("tlx: ")
    assert sentence in stderr
    assert "Traceback" not in stderr
    assert not modules & {"jax", "numpy"}


# --- errors -------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    def failing(error: BaseException):
        def read(*_, **__):
            raise error

        monkeypatch.setattr(config, "read", read)

    return failing


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("No pictures."), 2, "tlx: No pictures.\n"),
        (DivergedError("Not finite at step 3."), 1, "tlx: Not finite at step 3.\n"),
        (Interrupted("Go on with --resume."), 130, "tlx: Go on with --resume.\n"),
        (KeyboardInterrupt(), 130, "tlx: stopped.\n"),
        (OSError(28, "No space left on device"), 1, "tlx: [Errno 28] No space left on device\n"),
        (KeyError("x"), 1, "tlx: internal error: KeyError: 'x'\n"),
        (MemoryError(), 1, "tlx: The memory is full: there was no room for an array. Lower "),
    ],
)
def test_errors_are_sentences_with_a_code(failing, capsys, error, code, words):
    failing(error)
    assert cli.main(["run", "x.toml"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(words)
    assert ("--debug" in err) == (code == 1 and not isinstance(error, DivergedError | MemoryError))


@pytest.mark.parametrize("arguments", [["--debug", "run", "x"], ["run", "x", "--debug"]])
def test_debug_lets_errors_through(failing, arguments):
    failing(DataError("No pictures."))
    with pytest.raises(DataError):
        cli.main(arguments)


def commands(parser=None, name="tlx"):
    """(name, parser) of every command that takes arguments of its own."""
    parser = parser or cli.parser()
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for choice, made in (each for action in below for each in action.choices.items()):
        yield from commands(made, f"{name} {choice}")


def test_every_option_says_what_it_is_and_what_is_done_without_it():
    for name, action in ((name, a) for name, parser in commands() for a in parser._actions):
        assert len(action.help or "") > 4, (name, action.dest)
        takes_a_value = action.option_strings and action.nargs != 0 and not action.required
        if takes_a_value:
            assert "absent" in action.help or "default" in action.help, (name, action.dest)
            if isinstance(action.default, int | float):
                assert f"{action.default:.10g}" in action.help


def test_what_finetune_does_without_an_option_is_what_its_help_says():
    ((_, parser),) = (each for each in commands() if each[0] == "tlx finetune")
    says = {action.dest: action.help for action in parser._actions}
    run = config.parse(finetune.table("photos"))
    rate = finetune.table("photos", strategy="feature_transfer")["optimizer"]["learning_rate"]
    for option, default in {
        "backbone": run.backbone.name, "strategy": run.strategy.name, "epochs": f"{run.epochs:g}",
        "batch_size": run.batch_size, "lr": run.optimizer.learning_rate, "seed": run.seed,
    }.items():  # fmt: skip
        assert f"{default} if absent" in says[option]
    assert f"{rate} with --strategy feature_transfer" in says["lr"]


def test_wrong_usage_exits_with_2(capsys):
    for arguments in (["trian"], ["run"], ["run", "x", "--resume", "--overwrite"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_without_a_command_it_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 0
    assert "Begin with 'tlx finetune FOLDER'" in " ".join(capsys.readouterr().out.split())


def test_a_device_that_is_not_there_is_a_sentence(tmp_path):
    text = 'data = "digits"\nbackbone = "resnet20"\nepochs = 1\n'
    (tmp_path / "run.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tlx", "show", "run.toml"],
        env={**os.environ, "JAX_PLATFORMS": "nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "tlx: JAX_PLATFORMS=nowhere asks for a device that jax does not find" in done.stderr


def test_a_folder_and_a_run_file_are_told_apart(tmp_path, capsys):
    assert cli.main(["run", str(tmp_path)]) == 2
    assert f"'tlx finetune {tmp_path}'" in capsys.readouterr().err
    assert cli.main(["finetune", "my_run.toml"]) == 2
    assert "'tlx run my_run.toml'" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f'"{sys.executable}" -m tlx plugins | true', shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_completion_lists_the_interface():
    script = "import tlx; print(*dir(tlx))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert {*tlx.__all__} <= {*done.stdout.split()}
    assert len(tlx.__all__) > 5


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"tlx {tlx.__version__}\n"


# --- plugins ------------------------------------------------------------------------------------


@pytest.fixture
def two(install):
    install("good", {"heads": {"linear": "cli_good:f"}}, cli_good="def f(): ...")
    install("bad", {"heads": {"broken": "cli_bad:f"}, "sinks": {"log": "x:y"}}, cli_bad="1 / 0")


@pytest.mark.usefixtures("two")
def test_plugins_as_a_table(capsys):
    assert cli.main(["plugins", "heads"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "kind   name    distribution  version  status",
        "heads  broken  bad           1.0",
        "heads  linear  good          1.0",
    ]


@pytest.mark.usefixtures("two")
def test_plugins_check_lists_what_is_broken(capsys):
    assert cli.main(["plugins", "heads", "--check"]) == 2
    out, err = capsys.readouterr()
    assert [line.split()[-1] for line in out.splitlines()] == ["status", "broken", "ok"]
    assert "1 of 2 are broken:" in err
    assert "ZeroDivisionError" in err


@pytest.mark.usefixtures("two")
def test_plugins_as_json(capsys):
    assert cli.main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1] == {
        "kind": "heads", "name": "linear", "value": "cli_good:f", "distribution": "good",
        "version": "1.0", "status": "", "reason": "",
    }  # fmt: skip
    assert cli.main(["plugins", "--json", "--check"]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["broken", "ok", "broken"]


def test_an_unknown_kind_of_plugin(capsys):
    assert cli.main(["plugins", "haeds"]) == 2
    assert "Did you mean 'heads'?" in capsys.readouterr().err


# --- finetune -----------------------------------------------------------------------------------


def test_finetune_starts_from_the_source_that_ships_unless_told_otherwise(tmp_path):
    assert finetune.table("pictures/Ants & bees") == {
        "name": "Ants-bees",
        "epochs": finetune.EPOCHS,
        "data": "folder:pictures/Ants & bees",
        "backbone": finetune.BACKBONE,
        "strategy": finetune.WAY,
        "patience": finetune.PATIENCE,
    }
    assert config.parse(finetune.table("x")).weights.name == "resnet20-cifar10"
    assert config.parse(finetune.table("x", backbone="resnet50")).weights is None, "it has none"
    probe = finetune.table("x", strategy="feature_transfer")
    assert probe["optimizer"]["learning_rate"] > config.OptimizerConfig.learning_rate
    probe = finetune.table("x", strategy="feature_transfer", lr=1e-4)
    assert probe["optimizer"] == {"learning_rate": 1e-4}
    table = finetune.table(
        "x", backbone="b", weights="w", strategy="s", epochs=2.0, batch_size=8, lr=0.1, seed=1,
        name="n",
    )  # fmt: skip
    run = config.parse(table)
    assert (run.name, run.epochs, run.batch_size, run.seed) == ("n", 2.0, 8, 1)
    assert (run.backbone.name, run.strategy.name, run.optimizer.learning_rate) == ("b", "s", 0.1)


@pytest.mark.parametrize(
    ("chosen", "sets", "strategy", "augmented"),
    [
        ({}, [], "probe_then_finetune", False),
        ({}, ["weights.head=keep", "seed=1"], "probe_then_finetune", False),
        ({}, ["augmentation=light"], "probe_then_finetune", True),
        ({"weights": "none"}, [], "finetune", True),
        ({"backbone": "resnet8"}, [], "finetune", True),
        ({"strategy": "finetune"}, [], "finetune", True),
        ({}, ["strategy.norm=frozen"], "finetune", True),
        ({"strategy": "feature_transfer"}, [], "feature_transfer", True),
        ({"strategy": "feature_transfer"}, ["strategy.solver=newton"], "feature_transfer", False),
        ({}, ["strategy=feature_transfer", "strategy.solver=newton"], "feature_transfer", False),
    ],
)
def test_finetune_solves_the_head_first_where_there_is_a_source(chosen, sets, strategy, augmented):
    run = config.parse(finetune.table("x", sets, **chosen))
    assert run.strategy.name == strategy
    assert bool(run.augmentation) == augmented
    assert (run.patience is None) == (strategy != "probe_then_finetune")


def test_finetune_takes_other_data_too():
    assert finetune.table("a/b.npz")["data"] == "npz:a/b.npz"
    assert finetune.table("a/b.npz")["name"] == "b"
    assert finetune.table("a/b.csv")["data"] == "table:a/b.csv"
    assert finetune.table("tfds:cifar10")["data"] == "tfds:cifar10"
    assert finetune.table("table:a/b.csv")["data"] == "table:a/b.csv"
    assert finetune.table("tfds:cifar10")["name"] == "cifar10"
    assert finetune.table(".")["name"] == Path.cwd().name
