"""Presets stand for their lists wherever augmentations may stand, and nowhere else."""

import pytest

from tlx import config as configs
from tlx import registry
from tlx.errors import ConfigError
from tlx.protocols import Mixes
from tlx.run_file.augmentation_presets import PRESETS


def names(config):
    return [part.name for part in config.augmentation]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_written_out(tiny, preset):
    config = configs.parse(tiny(augmentation=preset))
    assert names(config) == list(PRESETS[preset])
    assert all(not part.options for part in config.augmentation)
    assert configs.parse(tiny(augmentation=[{"name": preset}])) == config
    assert configs.table(config)["augmentation"] == [{"name": name} for name in PRESETS[preset]]
    configs.check(config)


def test_one_may_stand_among_others_in_a_variant_and_be_changed(tiny):
    config = configs.parse(
        tiny(
            augmentation=["light", {"name": "blur", "probability": 0.1}],
            variant=[{"name": "more", "augmentation": "medium"}, {"name": "none"}],
        )
    )
    assert names(config) == ["flip", "crop", "blur"]
    assert [names(run) for _, run in configs.expand(config)] == [
        ["resized_crop", "flip", "color_jitter"], ["flip", "crop", "blur"]
    ]  # fmt: skip
    changed = configs.apply_sets(tiny(augmentation="medium"), ["augmentation.color_jitter.hue=0.1"])
    assert changed["augmentation"][2] == {"name": "color_jitter", "hue": 0.1}


def test_a_preset_takes_no_options(tiny):
    with pytest.raises(ConfigError, match=r"augmentation.1: 'light' stands for \['flip', 'crop'\]"):
        configs.parse(tiny(augmentation=["flip", {"name": "light", "padding": 2}]))


def test_presets_grow_and_hide_no_plugin():
    """Each is installed whole; the stronger ones change more, and one mixes."""
    built = {p: [registry.build("augmentations", n) for n in PRESETS[p]] for p in PRESETS}
    assert [len(parts) for parts in built.values()] == [2, 3, 5]
    assert [sum(isinstance(one, Mixes) for one in parts) for parts in built.values()] == [0, 0, 1]
    assert not {plugin.name for plugin in registry.find("augmentations")} & PRESETS.keys()
