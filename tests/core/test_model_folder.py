"""The two files of a saved model: what is written, and how damage and absence are told."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from tlx_image import Image, ImageInput
from tlx_image.model_images import saved_images

from tlx.contracts.input import ports_of
from tlx.errors import WeightsError
from tlx.run_folder import model_folder
from tlx.run_folder.model_folder import describe, find, save_model, tensors
from tlx.types import Variables


class Part:
    """A plugin as a run file names it."""

    def __init__(self, name, **options):
        self.name, self.options = name, options


INPUTS = ImageInput(size=(8, 8), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), order="bgr", crop=0.875)
VARIABLES = Variables(
    {
        "backbone": {"w": jnp.arange(6.0).reshape(2, 3).T, "half": jnp.ones(2, jnp.bfloat16)},
        "head": {"bias": jnp.zeros(2)},
        "strategy": {"decoder": jnp.ones(100)},
    },
    {"backbone": {"count": jnp.int32(7), "rng": jax.random.key(3)}, "head": {}, "strategy": {}},
)


def written(folder, **changes):
    given = {
        "backbone": Part("resnet20", shortcut="A", sizes=(1, 2)),
        "head": Part("softmax"),
        **saved_images(INPUTS, (8, 9)),
        "classes": ("ant", "biene"),
        "variables": VARIABLES,
    }
    save_model(folder, **(given | changes))
    return folder


def test_what_is_written_is_what_is_read(tmp_path):
    folder = written(tmp_path / "run" / "model")
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.safetensors"]
    for path in (folder, folder.parent, str(folder.parent)):
        about = describe(path)
        assert about == (
            folder,
            ("resnet20", {"shortcut": "A", "sizes": [1, 2]}),
            ("softmax", {}),
            ports_of(replace(INPUTS, canvas=(8, 9))),
            {"image": Image()},
            ("ant", "biene"),
            None,
            None,
            None,
            {},
        )
    assert sorted(tensors(folder)) == [
        "params/backbone/half",
        "params/backbone/w",
        "params/head/bias",
        "state/backbone/count",
        "state/backbone/rng",
    ]


def test_a_strategy_that_extends_the_model_is_named_and_its_leaves_are_kept(tmp_path):
    folder = written(tmp_path, extension=Part("prompt", width=2))
    assert describe(folder).extension == ("prompt", {"width": 2})
    assert tensors(folder)["params/strategy/decoder"].shape == (100,)
    about = folder / "model.json"
    assert json.loads(about.read_text())["format"] == 4
    about.write_text(json.dumps(json.loads(about.read_text()) | {"extension": {"name": 1}}))
    with pytest.raises(WeightsError, match="lacks or garbles a part"):
        describe(folder)


def test_other_programs_read_the_numbers(tmp_path):
    from safetensors.torch import load_file as load_torch

    file = written(tmp_path) / "model.safetensors"
    for found in (load_file(file), load_torch(file)):
        # safetensors writes memory as it lies, so a transposed array is where it goes wrong
        np.testing.assert_array_equal(found["params/backbone/w"], [[0, 3], [1, 4], [2, 5]])
        assert found["state/backbone/count"].shape == ()
        assert int(found["state/backbone/count"]) == 7


def test_without_a_head_only_the_backbone_is_kept(tmp_path):
    folder = written(tmp_path, head=None, classes=())
    about = describe(folder)
    assert about.head is None
    assert about.classes == ()
    assert not [path for path in tensors(folder) if "head" in path]


def test_saving_again_replaces_both_files(tmp_path):
    written(tmp_path)
    other = VARIABLES._replace(params={**VARIABLES.params, "head": {"bias": jnp.ones(2)}})
    written(tmp_path, variables=other, classes=("a", "b"))
    assert describe(tmp_path).classes == ("a", "b")
    assert tensors(tmp_path)["params/head/bias"].sum() == 2


def test_a_save_that_is_cut_off_between_the_files_is_noticed(tmp_path, monkeypatch):
    written(tmp_path)

    def killed(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_folder.manifest, "write", killed)
    other = VARIABLES._replace(params={**VARIABLES.params, "head": {"bias": jnp.ones(2)}})
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, variables=other)
    with pytest.raises(WeightsError, match="sha256 is not"):
        describe(tmp_path)


def test_damage_is_named(tmp_path):
    folder = written(tmp_path)
    file, about = folder / "model.safetensors", folder / "model.json"
    whole, text = file.read_bytes(), about.read_text()
    for place in range(0, len(whole), 37):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
            describe(folder)
    file.unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors is missing"):
        describe(folder)
    file.write_bytes(whole)
    for garbled in (text[:50], "[]", "{}", '"x"'):
        about.write_text(garbled)
        with pytest.raises(WeightsError, match="damaged or no description"):
            describe(folder)
    for key in ("backbone", "head", "inputs", "fields", "classes"):
        parts = json.loads(text)
        del parts[key]
        about.write_text(json.dumps(parts))
        with pytest.raises(WeightsError, match=f"lacks or garbles a part: '{key}'"):
            describe(folder)
    about.write_text(json.dumps(json.loads(text) | {"format": 5, "tlx": "9.0"}))
    with pytest.raises(WeightsError, match=r"has format 5; .* written by tlx 9\.0"):
        describe(folder)


def test_a_folder_that_is_not_there_or_holds_no_model(tmp_path):
    (tmp_path / "digits").mkdir()
    with pytest.raises(WeightsError, match=r"no folder .*digit\. Did you mean 'digits'\?"):
        find(tmp_path / "digit")
    with pytest.raises(WeightsError, match="no folder"):
        find(tmp_path / "nowhere" / "digits")
    with pytest.raises(WeightsError, match=r"holds no model.*Give the folder of a run"):
        find(tmp_path / "digits")
    (tmp_path / "digits" / "run.toml").touch()
    with pytest.raises(WeightsError, match=r"holds no model.*finish it with --resume"):
        find(tmp_path / "digits")
    written(tmp_path / "digits" / "scratch" / "model")
    written(tmp_path / "digits" / "l2-sp" / "model")
    with pytest.raises(WeightsError, match="several runs: name one of l2-sp, scratch"):
        find(tmp_path / "digits")
