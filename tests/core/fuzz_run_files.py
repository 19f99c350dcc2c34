"""Mutates run files: a program, see `tlx.testing.fuzzing`.

A run file is read and checked against the plugins that it names, as `tlx run` does before it opens
any data.
"""

import json
import tomllib

import tomli_w

from tlx import config
from tlx.testing.fuzzing import Input, changed_bytes, changed_value, main

SMALL = """
name = "small"
epochs = 3
data = "digits"
backbone = "resnet8"
"""
LARGE = """
name = "large"
seed = 3
steps = 200
batch_size = 16
eval_every = 0.5
precision = "bf16"
cache_gb = 1.5
augmentation = ["flip", {name = "crop", padding = 2}]
sink = ["html", "tensorboard"]

[data]
name = "folder"
path = "photos"
shots = 4
val = 0.2
split_seed = 1

[domain]
name = "npz"
path = "other.npz"

[backbone]
name = "resnet18"

[weights]
name = "hf:someone/something"
head = "keep"
allow = ["params/backbone/stem/*"]
input = {size = [32, 32], mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2], order = "bgr"}

[head]
name = "softmax"
label_smoothing = 0.1

[strategy]
name = "probe_then_finetune"
probe = 0.4

[[divergence]]
name = "l2_sp"
weight = 0.1
source = "old"

[[divergence]]
name = "feature_l2"
label = "again"
weight = 1
schedule = "cosine"

[optimizer]
name = "sgd"
learning_rate = 0.05
clip = 1.0
on_nan = "skip"

[step]
name = "jit"
accumulate = 2

[sources.old]
run = "runs/old"

[mesh]
data = 1

[health]
examples = 10

[[variant]]
name = "a"
weights = "none"

[[variant]]
name = "b"
optimizer = {learning_rate = 0.1}
"""
STAGES = """
name = "stages"
data = {name = "npz", path = "own.npz"}
backbone = {name = "resnet20"}

[[stage]]
name = "pretrain"
head = "none"
strategy = "simclr"
steps = 10

[[stage]]
name = "transfer"
strategy = "feature_transfer"
epochs = 2
"""
WORDS = (
    "none",
    "name",
    "weight",
    "softmax",
    "finetune",
    "adam",
    "l2",
    "npz:x",
    "x.py:Y",
    "a/b",
    "..",
)


def changed(draw, data, other):
    """Its text, or its table written anew."""
    if draw.random() < 0.5:
        return changed_bytes(draw, data, other)
    table = changed_value(draw, tomllib.loads(data.decode()), WORDS)
    try:
        return tomli_w.dumps(table).encode(errors="surrogateescape")
    except (TypeError, AttributeError, ValueError, RecursionError):  # TOML has no null
        return json.dumps(table).encode()


def checked(path, sets=()):
    found = config.read(path, sets)
    config.check(found)
    text = config.dumps(found)
    assert config.dumps(config.parse(tomllib.loads(text))) == text


def inputs(folder):
    for name, text in (("small", SMALL), ("large", LARGE), ("stages", STAGES)):
        yield Input(folder / f"{name}.toml", text.encode(), changed, checked)
    argument = b'optimizer.learning_rate=0.5\ndata={name="npz",path="x"}\ndivergence.0.weight=2'
    large = folder / "whole.toml"
    large.write_text(LARGE)

    def with_sets(path):
        checked(large, path.read_text(encoding="utf-8", errors="replace").split("\n"))

    yield Input(folder / "arguments.txt", argument, changed_bytes, with_sets)


if __name__ == "__main__":
    main(inputs)
