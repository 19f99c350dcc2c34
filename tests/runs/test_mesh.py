"""Eight devices give what one gives, parameters, optimizer and batch statistics, to rounding.

jax's own option makes eight devices of one CPU; it counts from the start of a process, so each
test is a program of its own.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest
import tomli_w

from tlx.config import parse
from tlx.devices import mesh
from tlx.errors import ConfigError
from tlx.run_file.run_config import MeshConfig

RUNS = """
import json, shutil, sys, tomllib
from pathlib import Path
import jax, numpy as np
from safetensors.numpy import load_file
import tlx
from tlx.devices import mesh
from tlx.assemble import assemble
from tlx.config import parse

assert len(jax.devices()) == 8
mesh.SMALL = 1  # every leaf that can be cut is
table, out = tomllib.loads(open(sys.argv[1]).read()), sys.argv[2]
many = {**table, "mesh": {"data": 4, "fsdp": 2}}

kernel = assemble(parse(many)).variables.params["backbone"]["stage2"]["conv"]["kernel"]
assert kernel.addressable_shards[0].data.size * 2 == kernel.size, "not cut over fsdp"

for name, run in (("one", table), ("many", many)):
    result = tlx.run(run, out=f"{out}/{name}")
    print(json.dumps({"test": result["test"], "val": result["val"]}))
one, eight = (load_file(f"{out}/{name}/model/model.safetensors") for name in ("one", "many"))
worst = {n: float(abs(one[n] - eight[n]).max() / max(abs(one[n]).max(), 1e-3)) for n in one}
assert max(worst.values()) < 1e-4, worst
assert any("mean" in name for name in one), list(one)

halves = Path(out, "halves")
shutil.copytree(f"{out}/many", halves)
(halves / "result.json").unlink()  # as if it had been stopped before its last checkpoint
shutil.rmtree(halves / "model")
shutil.rmtree(max((halves / "checkpoints").iterdir(), key=lambda path: int(path.name)))
tlx.run(many, out=halves, resume=True)
again = load_file(halves / "model" / "model.safetensors")
assert all((again[n] == eight[n]).all() for n in again)
"""

STRATEGIES = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, AxisType
from tlx import registry, trees
from tlx.devices import mesh
from tlx.config import OptimizerConfig
from tlx.objective import Objective
from tlx.planning.optimizer import transform
from tlx.protocols import Averages, Reparametrises
from tlx.testing import strategies
from tlx.testing.samples import made
from tlx.testing.world import constants, world
from tlx.types import TrainState

assert len(jax.devices()) == 8
mesh.SMALL = 1
shape = np.array(jax.devices()).reshape(4, 2)
grid = Mesh(shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
step, here = registry.build("steps", "jit", {}), world()
batch = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:2]])[None], here.batch)
names = sys.argv[2:] or [p.reference for p in registry.find("strategies")]
for name in names:
    def make(name=name):
        return made("strategies", registry.load("strategies", name), Path(sys.argv[1]))
    subject = strategies.Subject(make, Path(sys.argv[1]))
    thing = subject.thing
    # Its loss is a sum over 2048 x 2048 terms: at a rate of 0.1 the first step leads far away.
    told = {"learning_rate": 0.01} if name.endswith("/barlow_twins") else {}
    for planned in subject.phases:
        if planned.phase.solve is not None:
            continue
        objective = Objective(
            planned.model, planned.phase.forward,
            effective=thing.effective if isinstance(thing, Reparametrises) else None,
            averaging=thing if isinstance(thing, Averages) else None,
        )
        config = OptimizerConfig(name="sgd", learning_rate=0.1)
        tx = transform(
            config, start=0, steps=planned.phase.steps, multipliers=planned.multipliers
        )
        ends = []
        for where in (None, grid):
            moving = trees.partition(subject.variables.params, planned.trainable)[0]
            train = TrainState(
                jnp.int32(0), *subject.variables, tx.init(moving), jax.random.key(3), {}
            )
            train = jax.tree.map(jnp.copy, mesh.placed(train, where))
            reads = mesh.placed(jax.tree.map(jnp.asarray, constants(here, **told)), where)
            built = step.build(objective, tx, planned.trainable, where)
            for _ in range(2):
                train, _ = built(train, reads, mesh.shared(batch, where, axis=1))
            ends.append(jax.device_get((train.params, train.state, train.opt_state)))
        before = jax.device_get((subject.variables.params, subject.variables.state))
        def apart(a, b):
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            return float(abs(a - b).max(initial=0) / max(abs(a).max(initial=0), 1e-2))
        # A bias before batch norm has no gradient but rounding, which is no leaf's own number.
        slopes = trees.flat(ends[0][2][1].trace)
        largest = max(abs(slope).max() for slope in slopes.values())
        silent = tuple(path for path, slope in slopes.items() if abs(slope).max() < 1e-5 * largest)
        far = trees.flat(jax.tree.map(apart, *ends))
        worst = max(value for path, value in far.items() if not path.endswith(silent))
        other = trees.flat(ends[1][2][1].trace)
        assert all(abs(other[path]).max() < 1e-5 * largest for path in silent), name
        moved = max(jax.tree.leaves(jax.tree.map(apart, ends[0][:2], before)))
        print(f"{name:24} {planned.phase.name:20} apart {worst:.1e}  moved {moved:.1e}", flush=True)
        assert worst < 2e-4 < moved, (name, planned.phase.name, worst, moved)
"""


def on_eight(program, *arguments):
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_every_strategy_steps_alike(tmp_path):
    assert on_eight(STRATEGIES, tmp_path).count("\n") >= 20


@pytest.mark.parametrize(
    "changes",
    [
        {"divergence": [{"name": "l2", "weight": 0.1}, {"name": "bss", "weight": 0.1}]},
        pytest.param(
            {"step": {"name": "jit", "accumulate": 2}, "divergence": [{"name": "l2", "weight": 1}]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["whole batches", "batches in parts"],
)
def test_a_run_on_eight_devices_is_the_run_on_one(tiny, tmp_path, changes):
    table = tiny(
        batch_size=16, steps=6, log_every=3, optimizer={"name": "sgd", "learning_rate": 0.01},
        augmentation=["cutmix"], **changes,
    )  # fmt: skip
    (tmp_path / "run.toml").write_text(tomli_w.dumps(table))
    said = on_eight(RUNS, tmp_path / "run.toml", tmp_path)
    assert "mesh data 4 × fsdp 2" in said


@pytest.mark.parametrize(
    ("asked", "batch", "words"),
    [
        ({"data": 64}, 64, "asks for 64 devices, and there"),
        ({"data": 1, "fsdp": 0}, 10, "fsdp"),
    ],
)
def test_what_cannot_be_shared_is_refused(tiny, asked, batch, words):
    with pytest.raises(ConfigError, match=words):
        mesh.mesh_of(parse(tiny(mesh=asked)).mesh, batch)


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(
        jax, "devices", lambda: [SimpleNamespace(process_index=0, id=n) for n in range(4)]
    )
    with pytest.raises(ConfigError, match="multiple of 4, such as 12"):
        mesh.mesh_of(MeshConfig(data=2, fsdp=2), 11)


@pytest.mark.parametrize(
    ("shape", "fsdp", "cut"),
    [
        ((3, 3, 16, 32), 4, (None, None, None, "fsdp")),
        ((64, 64), 2, (None, "fsdp")),  # of equals the last
        ((1024, 30), 4, ("fsdp", None)),
        ((10,), 2, ()),  # small: whole on every device
        ((2049, 3), 2, ()),  # nothing divides
        ((64, 64), 1, ()),
    ],
)
def test_a_leaf_is_cut_along_its_longest_axis(shape, fsdp, cut):
    assert tuple(mesh.spec(shape, fsdp)) == cut
