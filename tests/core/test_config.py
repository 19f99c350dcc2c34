"""Run files: what they mean, and every mistake with its dotted path."""

from __future__ import annotations

import contextlib
import math
import tomllib
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx import config as configs
from tlx.config import (
    DataConfig,
    DivergenceConfig,
    OptimizerConfig,
    Part,
    RunConfig,
    Variant,
    WeightsConfig,
)
from tlx.errors import ConfigError
from tlx.run_file import overrides

SMALL = {"name": "small", "data": "digits", "backbone": "resnet20"}


def problems(table: dict, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configs.parse(table, **kwargs)
    first, *rest = str(caught.value).splitlines()
    count = "a problem" if len(rest) == 1 else f"{len(rest)} problems"
    assert first == f"{kwargs.get('where', 'the run file')} has {count}:"
    return [line.removeprefix("  ") for line in rest]


# --- what a table means -------------------------------------------------------------------------


def test_short_forms_and_defaults():
    config = configs.parse(
        SMALL
        | {
            "weights": "run:runs/x",
            "augmentation": ["flip", {"name": "crop", "padding": 2}],
            "divergence": {"name": "l2_sp", "weight": 1},
            "strategy": {"layers": [1, [2]]},
            "sources": {"teacher": "runs/t"},
        }
    )
    assert config == RunConfig(
        name="small",
        epochs=10.0,
        data=DataConfig(name="digits"),
        backbone=Part("resnet20"),
        weights=WeightsConfig(name="run:runs/x"),
        head=Part("softmax"),
        strategy=Part("finetune", {"layers": (1, (2,))}),
        augmentation=(Part("flip"), Part("crop", {"padding": 2})),
        divergence=(DivergenceConfig(name="l2_sp", weight=1.0),),
        sources={"teacher": configs.SourceConfig(run="runs/t")},
    )
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]  # that it cannot be done is the test


def test_none_means_nothing():
    config = configs.parse(SMALL | {"weights": "none", "head": "none", "sink": "none"})
    assert (config.weights, config.head, config.sink) == (None, None, ())
    assert configs.parse(SMALL | {"backbone": "resnet8"}).weights is None
    assert configs.parse(SMALL).sink == (Part("html"),)


def test_options_stand_beside_the_keys_of_tlx():
    data = configs.parse(SMALL | {"data": {"name": "f", "path": "x", "shots": 3, "val": 20}}).data
    assert (data.options, data.shots, data.val) == ({"path": "x"}, 3, 20)
    assert isinstance(data.val, int)
    weights = {"name": "safetensors", "path": "x", "head": "keep", "allow": ["*/bias"]}
    assert configs.parse(SMALL | {"weights": weights}).weights == WeightsConfig(
        name="safetensors", options={"path": "x"}, head="keep", allow=("*/bias",)
    )


def test_length_is_epochs_or_steps():
    assert configs.parse(SMALL).epochs == 10
    config = configs.parse(SMALL | {"steps": 7})
    assert (config.epochs, config.steps) == (None, 7)
    assert problems(SMALL | {"steps": 7, "epochs": 1}) == [
        "steps: cannot stand beside epochs; keep one of them."
    ]


# --- what is wrong with it ----------------------------------------------------------------------


def test_everything_is_reported_at_once_with_its_path():
    table = {
        "name": "a/b",
        "seed": -1,
        "epochs": "10",
        "batch_size": 1.5,
        "data": {"val": 1.5, "split_seed": 0},
        "bakbone": "resnet20",
        "weights": {"name": "w", "head": "knew"},
        "optimizer": {"learnig_rate": 1, "momentum": 1, "learning_rate": 0},
        "divergence": [
            {"name": "l2", "weight": -1},
            {"name": "l2", "weight": math.inf, "source": "techer"},
            {"name": "kl"},
        ],
        "augmentation": [3],
        "sources": {"teacher": {"rum": "x"}},
        "variant": [{"name": "v", "seed": "x"}, {"name": "v"}, {"name": "model", "bach_size": 1}],
    }
    found = problems(table, where="a.toml")
    assert sorted(line.split(":")[0] for line in found) == sorted([
        "name", "seed", "epochs", "batch_size", "data.name", "data.val", "bakbone", "backbone",
        "weights.head", "optimizer.learnig_rate", "optimizer.momentum", "optimizer.learning_rate",
        "divergence.0.weight", "divergence.1.weight", "divergence.1.label", "divergence.1.source",
        "divergence.2.weight", "augmentation.0", "sources.teacher.rum", "sources.teacher",
        "variant.0.name", "variant.1.name", "variant.2.name", "variant.0.seed",
        "variant.2.bach_size",
    ])  # fmt: skip
    text = "\n".join(found)
    assert "bakbone: unknown key. Did you mean 'backbone'?" in text
    assert "weights.head: should be 'new' or 'keep', not \"knew\"." in text
    assert "data.val: should be less than 1 or a valid integer, not 1.5." in text
    assert "there is no source 'techer'. Did you mean 'teacher'? Sources: source, teacher." in text
    assert "augmentation.0: should be a table, not 3." in text
    assert "data.name: is required." in text


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("epochs", [0.5, 3], [0, -1, math.nan, True]),
        ("steps", [1], [0, 1.0]),
        ("eval_every", [0.1], [0]),
        ("patience", [1], [0]),
        ("checkpoint_seconds", [0, 5], [-1, math.inf]),
        ("log_every", [1], [0]),
        ("seed", [0, 2**32 - 1], [2**32, "1"]),
        ("data.shots", [1], [0]),
        ("data.val", [0.1, 1], [0, 0.0, 1.0, -3, True]),
        ("divergence.0.weight", [0, 2.5], [-1e-9, math.inf, math.nan]),
        ("divergence.0.label", ["x"], [3]),
        ("optimizer.name", ["sgd"], ["sdg"]),
        ("optimizer.learning_rate", [1e-9], [0, -1, math.inf]),
        ("optimizer.momentum", [0, 0.99], [1, -0.1]),
        ("optimizer.warmup", [0, 0.5], [1]),
        ("optimizer.clip", [1], [0]),
        ("optimizer.nesterov", [True], [1, "yes"]),
        ("weights.allow", [[], ["*/bias"]], ["*/bias", [1]]),
    ],
)
def test_numbers_are_in_their_range(key, good, bad):
    def table(value):
        base = SMALL | {"weights": "w", "divergence": [{"name": "l2", "weight": 1}]}
        base = base | {"optimizer": {}, "data": {"name": "d"}, "weights": {"name": "w"}}
        *path, last = key.split(".")
        here = base = tomllib.loads(configs.tomli_w.dumps(base))
        for step in path:
            here = here[int(step) if step.isdecimal() else step]
        here[last] = value
        return base

    for value in good:
        configs.parse(table(value))
    for value in bad:
        assert all(p.startswith(key) for p in problems(table(value))), value


def test_reading_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('data = "digits"\nbackbone = "resnet20"\n')
    config = configs.read(path)
    assert config == configs.parse(SMALL | {"name": "mine"})
    assert configs.read(path, ["seed=3"]).seed == 3
    (tmp_path / "run.toml").write_text(configs.dumps(config))
    assert configs.read(tmp_path) == config
    with pytest.raises(
        ConfigError, match=r"There is no run file '.*mien.toml'. Did you mean '.*mine"
    ):
        configs.read(tmp_path / "mien.toml")
    with pytest.raises(ConfigError, match="There is no run file"):
        configs.read(tmp_path / "nowhere" / "mine.toml")
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML: .*line 2"):
        configs.read(path)
    path.write_bytes(b"# ok\nname = '\xff'")
    with pytest.raises(ConfigError, match=r"mine\.toml is not valid TOML: .*UTF-8 .*line 2"):
        configs.read(path)


def test_whatever_an_editor_puts_around_a_run_file(tmp_path):
    path, text = tmp_path / "mine.toml", 'data = "digits"\nbackbone = "resnet20"\n'
    wanted = configs.parse(SMALL | {"name": "mine"})
    for content in (
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
    ):
        path.write_bytes(content)
        assert configs.read(path) == wanted
    for encoding in ("utf-16", "utf-16-le"):  # with a mark at the beginning, and without
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ConfigError, match=r"mine\.toml .*UTF-16.*save it as UTF-8"):
            configs.read(path)


# --- --set --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["seed=3"], {"seed": 3}),
        (["optimizer.learning_rate=.5"], {"optimizer": {"learning_rate": 0.5}}),
        (["backbone=resnet32"], {"backbone": {"name": "resnet32"}}),
        (["backbone.width=2"], {"backbone": {"name": "resnet20", "width": 2}}),
        (["backbone.width=2", "backbone.name=r"], {"backbone": {"name": "r"}}),
        (["steps=5"], {"steps": 5}),
        (["divergence.0.weight=0.1"], {"divergence": [{"name": "l2", "weight": 0.1}]}),
        (["divergence.l2.weight=0.1"], {"divergence": [{"name": "l2", "weight": 0.1}]}),
        (["divergence.l2.name=kl"], {"divergence": [{"name": "kl"}]}),
        (['augmentation=["flip"]'], {"augmentation": [{"name": "flip"}]}),
        (["augmentation=light"], {"augmentation": [{"name": "flip"}, {"name": "crop"}]}),
        (["weights=none"], {"weights": "none"}),
        (["weights=run:runs/a=b"], {"weights": {"name": "run:runs/a=b"}}),
        (["out=2024-01-01"], {"out": "2024-01-01"}),
        (["head.deep.er=true"], {"head": {"deep": {"er": True}}}),
    ],
)
def test_sets(sets, expected):
    table = {
        "epochs": 3,
        "backbone": "resnet20",
        "divergence": [{"name": "l2", "weight": 1}],
        "weights": {"name": "w", "head": "keep"},
    }
    before = configs.expanded(table)
    after = configs.apply_sets(table, sets)
    changed = {key: value for key, value in after.items() if value != before.get(key)}
    assert changed == expected
    assert ("epochs" in after) == ("steps" not in after)
    assert before == configs.expanded(table)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed", "should look like a.b=value"),
        ("a..b=1", "should look like a.b=value"),
        ("seed.x=1", "'seed' is 0, not a table"),
        ("divergence.1.weight=1", r"no '1' in 'divergence'. There is: 0 \(l2\)"),
        ("divergence.l2_s.weight=1", r"Did you mean 'l2'"),
        ("sink=[1,", "is no valid TOML"),
    ],
)
def test_sets_that_lead_nowhere(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        configs.apply_sets({"seed": 0, "divergence": {"name": "l2", "weight": 1}}, [text])


def test_an_unknown_path_of_a_set_is_found_when_parsed(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(configs.dumps(configs.parse(SMALL)))
    with pytest.raises(ConfigError, match=r"optimiser: unknown key\. Did you mean 'optimizer'"):
        configs.read(path, ["optimiser.learning_rate=1"])


# --- variants -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("learning_rate=1", r"learning_rate: unknown key\. It belongs in \[optimizer\]\. Allowed"),
        ("shots=1", r"shots: unknown key\. It belongs in \[data\]\."),
        ("optimizer.seed=1", r"optimizer\.seed: unknown key\. It belongs at the top\."),
        ("optimizer.lr=1", r"optimizer\.lr: unknown key\. Did you mean 'learning_rate'\?"),
    ],
)
def test_a_key_in_the_wrong_table_is_told_its_own(tmp_path, key, said):
    (tmp_path / "a.toml").write_text('data = "digits"\nbackbone = "resnet20"\nepochs = 1\n')
    with pytest.raises(ConfigError, match=said):
        configs.read(tmp_path / "a.toml", [key])


@pytest.mark.parametrize("table", ["x.pth", {"name": "x.pth"}, {"name": "x.pth", "key": "ema"}])
def test_weights_are_a_file_as_it_is(table):
    least = {"name": "r", "data": "digits", "backbone": "resnet20", "epochs": 1}
    parsed = configs.parse({**least, "weights": table}, "here")
    assert parsed.weights is not None
    assert parsed.weights.name == "torch:x.pth"
    assert configs.parse({**least, "variant": [{"name": "a", "weights": table}]}, "here")
    path = {"name": "torch", "path": "x.pth"}
    assert configs.parse({**least, "weights": path}, "here").weights.name == "torch"


def test_variants_are_laid_over_the_run():
    base = configs.parse(
        SMALL
        | {
            "out": "runs/x",
            "weights": {"name": "w", "head": "keep"},
            "backbone": {"name": "resnet20", "width": 2, "shortcut": "A"},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "divergence": [{"name": "l2", "weight": 1}],
            "variant": [
                {"name": "same", "backbone": {"width": 3}},
                {"name": "other", "backbone": "resnet32", "steps": 9},
                {"name": "lists", "divergence": [], "optimizer": {"name": "sgd", "clip": 1}},
                {"name": "scratch", "weights": "none"},
            ],
        }
    )
    runs = dict(configs.expand(base))
    assert list(runs) == ["same", "other", "lists", "scratch"]
    assert [run.name for run in runs.values()] == [f"small-{name}" for name in runs]
    assert runs["same"].out == "runs/x/same"
    assert runs["same"].backbone == Part("resnet20", {"width": 3, "shortcut": "A"})
    assert runs["other"].backbone == Part("resnet32")
    assert (runs["other"].steps, runs["other"].epochs) == (9, None)
    assert runs["lists"].divergence == ()
    assert runs["lists"].optimizer == OptimizerConfig(name="sgd", learning_rate=0.1, clip=1.0)
    assert runs["scratch"].weights is None
    assert all(run.variant == () for run in runs.values())


def test_a_run_without_variants_is_its_only_one():
    config = configs.parse(SMALL)
    assert configs.expand(config) == (("small", config),)


def test_problems_of_a_variant_carry_its_number():
    table = SMALL | {"seed": -1, "variant": [
        {"name": "fine"}, {"name": "bad", "optimizer": {"learning_rate": -1}},
        {"name": "nested", "variant": []},
    ]}  # fmt: skip
    assert [p.split(":")[0] for p in problems(table)] == [
        "variant.2.variant", "seed", "variant.1.optimizer.learning_rate",
    ]  # fmt: skip


def test_differences_are_dotted_paths():
    a = configs.parse(SMALL | {"divergence": [{"name": "l2", "weight": 1}]})
    b = configs.parse(
        SMALL
        | {
            "seed": 1,
            "divergence": [{"name": "l2", "weight": 2}],
            "data": {"name": "digits", "x": 1},
        }
    )
    assert configs.differences(a, b) == ("seed", "data.x", "divergence.0.weight")
    assert configs.differences(a, a) == ()


# --- there and back -----------------------------------------------------------------------------

words = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
scalars = st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8) | st.floats(
    allow_nan=False, width=64
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
own = {name for names in configs.OWN_KEYS.values() for name in names}
options = st.dictionaries(words.filter(lambda w: w not in own), values, max_size=3)
references = words | words.map(lambda w: f"run:{w}/x") | words.map(lambda w: f"dist/{w}")
nothing = st.just("none")
positive = st.floats(1e-6, 1e6)


def part(**own_keys):
    table = st.fixed_dictionaries({"name": references}, optional=own_keys)
    return st.builds(lambda given, beside: beside | given, table, options) | references


tables = st.fixed_dictionaries(
    {"name": words, "data": part(shots=st.integers(1, 9), val=st.integers(1, 9) | st.just(0.5)),
     "backbone": part()},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "out": st.text(max_size=9),
        "steps": st.integers(1, 99),
        "patience": st.integers(1, 9),
        "eval_every": positive,
        "weights": part(head=st.sampled_from(["new", "keep"]), allow=st.lists(words)) | nothing,
        "head": part() | nothing,
        "strategy": options,
        "optimizer": st.fixed_dictionaries({}, optional={
            "name": st.sampled_from(["sgd", "adam"]), "learning_rate": positive, "clip": positive,
        }),
        "divergence": st.lists(
            st.fixed_dictionaries({"name": references, "weight": positive, "label": words}),
            max_size=3, unique_by=lambda d: d["label"],
        ),
        "augmentation": st.lists(part(), max_size=2),
        "sink": st.lists(part(), max_size=2),
        "sources": st.dictionaries(words, words, max_size=2),
        "variant": st.lists(
            st.fixed_dictionaries({"name": words.filter(lambda w: w != "model")},
                                  optional={"seed": st.integers(0, 9), "backbone": part()}),
            max_size=2, unique_by=lambda v: v["name"],
        ),
    },
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(tables)
def test_the_saved_file_is_the_same_run(table):
    config = configs.parse(table)
    assert configs.parse(tomllib.loads(configs.dumps(config))) == config
    for _, run in configs.expand(config):
        assert configs.parse(tomllib.loads(configs.dumps(run))) == run


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from([f.name for f in configs.fields(RunConfig)]) | words, values)
)
def test_any_table_is_a_run_or_a_sentence(table):
    with contextlib.suppress(ConfigError):
        assert isinstance(configs.parse(table), RunConfig)


def test_what_toml_cannot_hold_is_refused():
    config = RunConfig(name="x", data=DataConfig(name="d"), backbone=Part("b", {"f": print}))
    with pytest.raises(ConfigError, match="fits in no run file"):
        configs.dumps(config)
    clash = RunConfig(name="x", data=DataConfig(name="d", options={"shots": 1}), backbone=Part("b"))
    with pytest.raises(ConfigError, match="cannot be called shots"):
        configs.dumps(clash)


# --- check --------------------------------------------------------------------------------------

PARTS = """
def head(classes: int, bias: bool = True): ...
def other(width: int = 1): ...
"""


@pytest.fixture
def installed(install):
    install(
        "parts",
        {
            "heads": {"softmax": "config_parts:head"},
            "datasets": {"digits": "config_parts:other", "folder": "config_parts:other"},
            "backbones": {"resnet20": "config_parts:other", "broken": "config_parts:absent"},
            "strategies": {"finetune": "config_parts:other"},
            "steps": {"jit": "config_parts:other"},
            "sinks": {"html": "config_parts:other"},
        },
        config_parts=PARTS,
    )


def refused(table: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configs.check(configs.parse(table))
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.usefixtures("installed")
def test_check_accepts_what_fits():
    configs.check(
        configs.parse(
            SMALL | {"head": {"bias": False}, "backbone": {"name": "resnet20", "width": 2}}
        )
    )


@pytest.mark.usefixtures("installed")
def test_wrong_names_are_reported_together_and_before_options():
    table = SMALL | {
        "backbone": "resnet02",
        "head": {"x": 1},
        "divergence": {"name": "l2", "weight": 1},
    }
    table |= {"variant": [{"name": "v", "data": "foldr"}, {"name": "w", "seed": 1}]}
    found = refused(table)
    assert [line.split(":")[0] for line in found] == ["backbone", "divergence.0", "variant.0.data"]
    assert "Did you mean 'resnet20'?" in found[0]


@pytest.mark.usefixtures("installed")
def test_wrong_options_are_reported_together():
    table = SMALL | {
        "data": {"name": "digits", "shot": 3},
        "head": {"bias": 2},
        "backbone": "broken",
    }
    table |= {"variant": [{"name": "v", "backbone": {"name": "resnet20", "widht": 2}}]}
    found = refused(table)
    assert [line.split(":")[0] for line in found] == [
        "data.shot", "backbone", "head.bias", "variant.0.backbone.widht",
    ]  # fmt: skip
    assert "Did you mean 'shots'?" in found[0]
    assert "is broken: AttributeError" in found[1]


@pytest.mark.usefixtures("installed")
def test_a_run_made_in_python_is_checked_too():
    config = RunConfig(
        name="x", data=DataConfig(name="digits"), backbone=Part("resnet20"), batch_size=0,
        variant=(Variant("a", {"seed": -1}),),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"(?s)batch_size: .*variant\.0\.seed: "):
        configs.check(config)


@pytest.mark.parametrize(
    ("weights", "problems"),
    [("w.npz", 1), ("folder", 1), ("none", 1), ("npz:w.npz", 1), ("nothing.npz", 1), ("nothing", 2),
     ("odd.txt", 2)],
)  # fmt: skip
def test_a_file_of_weights_is_no_second_problem(tmp_path, monkeypatch, weights, problems):
    monkeypatch.chdir(tmp_path)
    for file in ("w.npz", "folder/config.json", "odd.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"PK")
    table = {"data": "digits", "backbone": "resnet20", "steps": "many"}
    for typed in (weights, {"name": weights}):
        with pytest.raises(ConfigError) as said:
            configs.parse({**table, "weights": typed}, names=True)
        assert "steps: " in str(said.value)
        assert str(said.value).count("\n  weights: ") == problems - 1


def test_a_wrong_name_is_reported_beside_a_wrong_value():
    table = {
        "name": "x", "epochs": -1, "data": "digits", "backbone": "no-such-network",
        "divergence": [{"name": "no-such-distance", "weight": 1.0}],
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        configs.parse(table, names=True)
    said = str(caught.value)
    assert "epochs: " in said
    assert "backbone: No backbone 'no-such-network' is installed." in said
    assert "divergence.0: No divergence 'no-such-distance' is installed." in said


@pytest.mark.parametrize(
    "text", ["divergence.mine.name=l2_sp", "divergence.0=l2_sp", 'divergence.mine={name="l2_sp"}']
)
def test_a_divergence_that_is_exchanged_keeps_its_label_and_its_source(text):
    entry = {"name": "l2", "label": "mine", "source": "old", "weight": 0.1, "eps": 3}
    table = overrides.apply_sets({"divergence": [entry]}, [text])
    assert table == {"divergence": [{"label": "mine", "source": "old", "name": "l2_sp"}]}
