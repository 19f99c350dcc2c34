"""What a run is made of, and every refusal that needs no training."""

import pytest

import tlx
from tlx import config as configs
from tlx.assemble import assemble
from tlx.errors import ConfigError, WeightsError


def made(table):
    return assemble(configs.parse(table))


def test_what_an_experiment_holds(tiny):
    found = made(tiny())
    assert found.model.inputs.canvas == (8, 8)
    assert found.steps == 12
    assert found.steps_per_epoch == 7
    assert found.selection == ("accuracy", "max")
    assert found.report is None
    assert [len(part) for part in found.splits[:3]] == [69, 21, 50]
    assert not found.constants.sources, "nobody asks for a source, so none is kept"


def test_epochs_become_steps(tiny):
    table = {name: value for name, value in tiny().items() if name != "steps"}
    assert made({**table, "epochs": 2}).steps == 14
    assert made({**table, "epochs": 0.1}).steps == 1


def test_a_divergence_from_a_source_needs_weights(tiny):
    with pytest.raises(
        ConfigError, match=r"'l2_sp' compares with the source model 'source'.*\[weights\]"
    ):
        made(tiny(divergence=[{"name": "l2_sp", "weight": 1.0}]))


def test_a_misspelt_word_is_refused_with_the_nearest(tiny, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def drift(*, parms, source_params):\n    return 0.0\n")
    with pytest.raises(Exception, match=r"parms.*Did you mean 'params'"):
        made(tiny(divergence=[{"name": f"{file}:drift", "weight": 1.0}]))


def test_a_second_stream_is_refused_where_there_is_none(tiny, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def mmd(*, features, domain_features):\n    return 0.0\n")
    with pytest.raises(ConfigError, match="no second stream"):
        made(tiny(divergence=[{"name": f"{file}:mmd", "weight": 1.0}]))


def test_a_feature_that_is_not_there(tiny):
    with pytest.raises(ConfigError, match=r"'poled'.*Did you mean 'pooled'"):
        made(tiny(head={"name": "softmax", "feature": "poled"}))


@pytest.fixture
def source(tiny, tmp_path):
    tlx.run(tiny(steps=2), out=tmp_path / "source")
    return f"run:{tmp_path / 'source'}"


def test_only_what_is_asked_for_is_kept(tiny, source):
    found = made(tiny(weights=source, divergence=[{"name": "l2_sp", "weight": 1.0}]))
    assert list(found.constants.sources) == ["source"]
    assert not made(tiny(weights=source)).constants.sources


def test_the_head_is_new_unless_kept(tiny, source):
    new = made(tiny(weights=source))
    assert {leaf.path.split("/")[1] for leaf in new.report.loaded} == {"backbone"}
    assert {leaf.path.split("/")[1] for leaf in new.report.initialised} == {"head"}
    kept = made(tiny(weights={"name": source, "head": "keep"}))
    assert not kept.report.initialised
    heads = [found.variables.params["head"]["kernel"] for found in (new, kept)]
    assert not (heads[0] == heads[1]).all()


def test_weights_of_another_network_are_refused(tiny, source):
    table = tiny(weights=source)
    table["backbone"] = {"name": table["backbone"], "width": 6}
    with pytest.raises(WeightsError, match=r"(?s)do not fit the backbone.*params/backbone/stage1"):
        made(table)


def test_outputs_over_other_classes_are_refused(tiny, source, tmp_path, pictures):
    import numpy as np

    held = dict(np.load(pictures))
    held["class_names"] = np.array(["green", "red", "blue"])
    np.savez(tmp_path / "renamed.npz", **held)
    data = {"name": "npz", "path": str(tmp_path / "renamed.npz")}
    kl = [{"name": "kl", "weight": 1.0}]
    assert made(tiny(weights=source, divergence=kl))
    with pytest.raises(ConfigError, match="outputs over different classes"):
        made(tiny(weights=source, divergence=kl, data=data))


def test_a_mode_that_the_backbone_lacks(tiny, tmp_path):
    file = tmp_path / "plain.py"
    file.write_text(
        "from tlx.testing.toys import ToyBackbone\n"
        "class Plain:\n"
        "    def __init__(self):\n"
        "        toy = ToyBackbone()\n"
        "        for name in ('inputs', 'features', 'leaf', 'init', 'apply'):\n"
        "            setattr(self, name, getattr(toy, name))\n"
        "        self.modes = frozenset({'train', 'eval'})\n"
    )
    strategy = {"name": "finetune", "norm": "frozen"}
    with pytest.raises(
        ConfigError, match=r"mode 'tune', which it cannot tell apart. It has: eval, train"
    ):
        made(tiny(backbone=f"{file}:Plain", strategy=strategy))
