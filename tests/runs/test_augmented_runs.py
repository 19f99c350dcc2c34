"""Whole runs on pictures that are changed and mixed: learnt from, reported and repeated alike."""

import pytest

import tlx
from tlx import config as configs
from tlx.run_file.augmentation_presets import PRESETS


@pytest.mark.slow
def test_a_run_learns_from_strongly_augmented_pictures_in_parts_of_a_batch(tiny, tmp_path):
    table = tiny(augmentation="strong", step={"name": "jit", "accumulate": 2}, steps=60)
    first, again = (tlx.run(table, out=tmp_path / name) for name in "ab")
    assert first["test"] == again["test"]
    assert first["test"]["accuracy"] > 0.5
    saved = configs.read(tmp_path / "a")
    assert [part.name for part in saved.augmentation] == list(PRESETS["strong"])


def test_a_second_stream_and_a_source_see_mixed_pictures_too(tiny, pictures, tmp_path):
    tlx.run(tiny(), out=tmp_path / "source")
    result = tlx.run(
        tiny(
            weights={"name": f"run:{tmp_path / 'source'}", "head": "keep"},
            domain={"name": "npz", "path": str(pictures)},
            augmentation="cutmix",
            divergence=[
                {"name": "coral", "weight": 0.1},
                {"name": "feature_l2", "weight": 0.1},
                {"name": "distillation", "weight": 0.1},
            ],
        ),
        out=tmp_path / "target",
    )
    assert result["test"]["accuracy"] > 0.5
