"""A plugin made by `tlx new-plugin` for each kind installs, is found and passes the kit."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlx import scaffold
from tlx.errors import ConfigError, PluginError
from tlx.testing import checks
from tlx.testing.cases import KINDS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One plugin of each kind, installed with one call into a folder of its own."""
    folder, site = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("site")
    written = {kind: scaffold.new_plugin(kind, f"my-{kind}", folder) for kind in scaffold.USE}
    roots = [str(files[0].parent) for files in written.values()]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(site), *roots]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return written, site


def run(site, *command):
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_there_is_a_template_for_every_kind_with_checks():
    assert set(scaffold.USE) == set(KINDS)


def test_every_kind_installs_and_passes_its_own_tests(made):
    written, site = made
    tests = [str(files[-1]) for files in written.values()]
    options = ["-q", "-W", "error", "--import-mode=importlib", "-p", "no:cacheprovider"]
    done = run(site, "-m", "pytest", *options, *tests)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|skipped)", done.stdout)}
    total = sum(len(checks(kind)) for kind in KINDS)
    assert counts["passed"] + counts["skipped"] == total
    # Stages, a mode, own, prepared and recorded quantities, frozen statistics, `effective`,
    # `finish`, labels at once, `write`, masks, averages, pictures, mixing, what a cache keeps,
    # parameters of its own, places, a cached extension, setup, warps, fingerprints, a shared entry,
    # assets.
    assert counts["skipped"] <= 26, done.stdout


def test_what_is_written_is_clean_by_our_own_rules(made):
    written, _ = made
    roots = {str(files[0].parent) for files in written.values()}
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check"], ["format", "--diff"]):
        config = ["--config", str(Path(__file__).parents[2] / "pyproject.toml")]
        done = subprocess.run(
            [*ruff, *command, *config, "--no-cache", *roots],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_new_plugins_are_found_by_name(made):
    _, site = made
    done = run(site, "-m", "tlx", "plugins", "--json")
    for kind in scaffold.USE:
        assert f'"my_{kind}"' in done.stdout, done.stdout + done.stderr


RUN = """
import numpy as np, tlx
from safetensors.numpy import load_file

table = {
    "name": "made", "steps": 4, "batch_size": 20, "data": "my_datasets",
    "backbone": "my_backbones", "head": "my_heads", "strategy": "my_strategies",
    "step": "my_steps", "augmentation": ["my_augmentations"], "sink": ["my_sinks"],
    "metric": ["my_metrics"], "selection": {"metric": "my_metrics"},
}
tlx.run(table, out="source")
np.savez("source.npz", **load_file("source/model/model.safetensors"))
weights = {"name": "my_weights", "path": "source.npz"}
divergence = [{"name": "my_divergences", "weight": 0.1}]
tlx.run({**table, "weights": weights, "divergence": divergence}, out="target")
"""


def test_a_run_made_of_nothing_else_runs(made):
    """Every part is one of the new plugins, first from random weights, then from the first run."""
    _, site = made
    done = run(site, "-W", "error", "-c", RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.1 × my_divergences" in done.stdout
    assert (site / "target" / "result.json").is_file()


def test_readme_and_metadata_name_the_plugin(tmp_path):
    files = scaffold.new_plugin("divergence", "cosine-gap", tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "tlx-cosine-gap/pyproject.toml",
        "tlx-cosine-gap/README.md",
        "tlx-cosine-gap/tlx_cosine_gap/__init__.py",
        "tlx-cosine-gap/tlx_cosine_gap/cosine_gap.py",
        "tlx-cosine-gap/tests/test_cosine_gap.py",
    ]
    assert 'cosine_gap = "tlx_cosine_gap.cosine_gap:CosineGap"' in files[0].read_text()
    assert '[[divergence]]\nname = "cosine_gap"' in files[1].read_text()
    assert "$" not in "".join(path.read_text() for path in files)


@pytest.mark.parametrize("name", ["Mine", "1st", "a b", "a--b", "../up", "class", "", "mine.py"])
def test_a_name_that_cannot_be_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="cannot name a plugin"):
        scaffold.new_plugin("sinks", name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'divergence'"):
        scaffold.new_plugin("divergense", "mine", tmp_path)


def test_a_name_that_is_taken_is_refused(tmp_path):
    with pytest.raises(PluginError, match="exists already in tlx-divergences"):
        scaffold.new_plugin("divergences", "l2_sp", tmp_path)
    with pytest.raises(PluginError, match=r"The distribution tlx-data .* is installed already"):
        scaffold.new_plugin("datasets", "data", tmp_path)


def test_nothing_is_overwritten(tmp_path):
    files = scaffold.new_plugin("sinks", "mine", tmp_path)
    files[3].write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        scaffold.new_plugin("sinks", "mine", tmp_path)
    assert files[3].read_text() == "mine"
