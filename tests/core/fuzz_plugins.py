"""Edits plugins into wrong but plausible ones: a program, see `tlx.testing.fuzzing`.

What a person writes who has not read the contract well: another return value, a parameter of
another name, a line forgotten. Each takes part in a small run, which ends or is refused.
"""

import contextlib
import io
import re
import shutil
import sys
from pathlib import Path

import jax
import whole_plugins as whole

import tlx
from tlx.testing.compiling import compiled_once
from tlx.testing.fuzzing import Input, main

SOURCES = {
    "functions": (whole.FUNCTIONS, "net", lambda it: {"backbone": it}),
    "backbone": (whole.BACKBONE, "Net", lambda it: {"backbone": it}),
    "head": (whole.HEAD, "Head", lambda it: {"head": it}),
    "divergence": (
        whole.DIVERGENCE, "Divergence", lambda it: {"divergence": [{"name": it, "weight": 0.1}]}
    ),
    "strategy": (whole.STRATEGY, "Strategy", lambda it: {"strategy": it}),
    "augmentation": (whole.AUGMENTATION, "Augmentation", lambda it: {"augmentation": [it]}),
    "data": (whole.DATA, "Data", lambda it: {"data": {"name": it}}),
    "weights": (whole.WEIGHTS, "Source", lambda it: {"weights": it}),
    "sink": (whole.SINK, "Sink", lambda it: {"sink": [it]}),
}  # fmt: skip
RETURNS = (
    "return", "return None", "return ({0}, {0})", "return [{0}]", 'return {{"other": {0}}}',
    "return ({0})[0]", "return str({0})", "return ({0}) * float('nan')", "return {0}, 3",
    "return ({0}).sum()", "return float({0})", "return ({0}).astype(int)", "yield {0}",
    "return ({0}) if ({0}) else None", "raise ValueError('no')", "raise SystemExit(3)",
    "return 1 / 0", "return 3", "return -1", "return ''", "return self.missing", "return dict({0})",
    "return np.asarray({0})", "return jnp.asarray({0})", "return lambda: {0}", "assert False",
)  # fmt: skip
NUMBERS = ("0", "-1", "1", "7", "1000", "2.5", "'3'", "None", "float('nan')", "()")


def edited(draw, data, other):
    """One to two edits of a kind that a person makes."""
    text = data.decode()
    for _ in range(draw.choice([1, 1, 1, 2])):
        text = draw.choice([returned, renamed, renumbered, forgotten, exchanged])(draw, text)
    return text.encode()


def spots(draw, pattern, text):
    found = list(re.finditer(pattern, text))
    return draw.choice(found) if found else None


def returned(draw, text):
    spot = spots(draw, r"return (.+)", text)
    if not spot:
        return text
    return text[: spot.start()] + draw.choice(RETURNS).format(spot[1]) + text[spot.end() :]


def renamed(draw, text):
    spot = spots(draw, r"def \w+\(([^)\n]*)\)", text)
    if not spot:
        return text
    names = spot[1].split(", ")
    match draw.randrange(4):
        case 0:
            names.pop(draw.randrange(len(names)))
        case 1:
            names.append(draw.choice(["more", "key", "training=False", "*args", "**kwargs"]))
        case 2:
            at = draw.randrange(len(names))
            names[at] = draw.choice(["key", "inputs", "variables", "data", names[at] + "s"])
        case _:
            draw.shuffle(names)
    return text[: spot.start(1)] + ", ".join(names) + text[spot.end(1) :]


def renumbered(draw, text):
    spot = spots(draw, r"(?<![\w.])\d+(\.\d+)?", text)
    if not spot:
        return text
    return text[: spot.start()] + draw.choice(NUMBERS) + text[spot.end() :]


def forgotten(draw, text):
    lines = text.split("\n")
    at = draw.randrange(len(lines))
    lines[at] = re.sub(r"\S.*", "pass", lines[at]) if draw.random() < 0.5 else ""
    return "\n".join(lines)


def exchanged(draw, text):
    """One word for another of the same file."""
    spot, word = spots(draw, r"\b[a-z_]{4,}\b", text), spots(draw, r"\b[a-z_]{4,}\b", text)
    return text[: spot.start()] + word[0] + text[spot.end() :]


def inputs(folder):
    seen = []
    net = folder / "whole.py"
    net.write_text(whole.FUNCTIONS)
    for name, (text, thing, part) in SOURCES.items():

        def run(path, thing=thing, part=part):
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            config = {
                "name": "x", "steps": 2, "batch_size": 6, "weights": "none", "sink": [],
                "data": {"name": "digits", "shots": 2, "val": 12, "test": 12},
                "backbone": f"{net}:net", **part(f"{path}:{thing}"),
            }  # fmt: skip
            seen.append(path)
            if len(seen) % 20 == 0:  # what is compiled stays in the folder
                jax.clear_caches()
            with contextlib.redirect_stdout(io.StringIO()):
                tlx.run(config, out=out)

        yield Input(folder / f"{name}.py", text.encode(), edited, run)


if __name__ == "__main__":
    with compiled_once(Path(sys.argv[1]) / "compiled"):
        main(inputs, memory=8 << 30, seconds=60.0)  # a run compiles
