"""A file name, a folder or a reference as a source of weights."""

import pytest

from tlx.errors import WeightsError
from tlx.run_file.weight_reference import reference


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a/b.npz", "npz:a/b.npz"),
        ("b.safetensors", "safetensors:b.safetensors"),
        ("net.th", "torch:net.th"),
        ("net.PTH", "torch:net.PTH"),
        ("pytorch_model.bin", "torch:pytorch_model.bin"),
        ("net.weights.h5", "keras:net.weights.h5"),
        ("net.keras", "keras:net.keras"),
        ("hf:timm/resnet18.a1_in1k", "hf:timm/resnet18.a1_in1k"),
        ("my.py:Source", "my.py:Source"),
        ("imagenet", "imagenet"),
        ("none", "none"),
        ("", ""),
        ("x" * 5000, "x" * 5000),
        ("~nobody-lives-here/x", "~nobody-lives-here/x"),
        ("nul\0", "nul\0"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_the_ending_decides(text, wanted):
    assert reference(text) == wanted


@pytest.mark.parametrize(
    ("inside", "scheme"),
    [
        ("run.toml", "run:"),
        ("model.json", "run:"),
        ("config.json", "hf:"),
        ("model.safetensors", "hf:"),
        ("_METADATA", "orbax:"),
        ("notes.txt", ""),
    ],
)
def test_a_folder_is_known_by_what_lies_in_it(tmp_path, inside, scheme):
    (tmp_path / inside).touch()
    assert reference(str(tmp_path)) == f"{scheme}{tmp_path}"


def test_a_model_folder_is_a_run_though_it_holds_safetensors(tmp_path):
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert reference(str(tmp_path)).startswith("run:")


def test_a_file_that_nobody_reads_is_refused_with_what_is_read(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(WeightsError, match=r"no known kind, .*known are \.safetensors"):
        reference(str(tmp_path / "notes.md"))


def test_a_file_with_a_colon_in_its_name(tmp_path):
    (tmp_path / "a:b.npz").touch()
    assert reference(f"{tmp_path}/a:b.npz") == f"npz:{tmp_path}/a:b.npz"
