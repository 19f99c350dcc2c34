"""A loop of your own: tlx's model, objective and step without a run file.

Fine-tunes a ResNet-20 on 100 labelled digits while L2-SP holds it near its source, and prints
the loss:

    python examples/by_hand.py
"""

import jax
import jax.numpy as jnp
import optax
from tlx_image.model_images import collate_images

from tlx import Model, Objective, Term, registry, stream, trees
from tlx.data import splits
from tlx.planning.plan import plan
from tlx.types import Constants, TrainState
from tlx.weights.matching import match

STEPS = 30


def main() -> None:
    """Train for a quarter of a minute."""
    parts = splits.cut(registry.build("datasets", "digits"), shots=10, seed=0)
    batches = stream.training(parts.train, collate_images((8, 8)), batch_size=50, seed=0)
    batch = next(batches)

    # f, which starts where f_S is; only the head is new.
    weights = registry.build("weights", "resnet20-cifar10")
    backbone = registry.build("backbones", "resnet20")
    head = registry.build("heads", "softmax", {"classes": 10})
    model = Model(backbone, head, weights.input or backbone.inputs)
    fresh = jax.jit(model.init)(jax.random.key(0), batch)
    source, report = match(weights.tensors(), fresh, backbone.dialects)
    params = {"backbone": source.params["backbone"], "head": fresh.params["head"]}
    print(f"{len(report.loaded)} leaves loaded, {trees.count(params):,} parameters")

    # L_T(f) + lambda * D(f, f_S), with D = L2-SP
    (phase,) = plan(registry.build("strategies", "finetune"), model, params, STEPS)
    stay = Term("l2_sp", registry.build("divergences", "l2_sp"))
    objective = Objective(phase.model, phase.phase.forward, (stay,), (("source", model),))
    hyper = {"divergence": {"l2_sp": jnp.float32(0.01)}, "steps": jnp.float32(STEPS)}
    constants = Constants({"source": source}, {}, {}, hyper)

    # min: any optax rule. A step consumes the state it is given, so that state is a copy.
    tx = optax.with_extra_args_support(optax.adam(1e-3))
    start = params, {"backbone": source.state["backbone"], "head": fresh.state["head"]}
    params, state = jax.tree.map(jnp.copy, start)
    moving, _ = trees.partition(params, phase.trainable)
    train = TrainState(jnp.int32(0), params, state, tx.init(moving), jax.random.key(1), {})
    step = registry.build("steps", "jit").build(objective, tx, phase.trainable, None)
    for number in range(1, STEPS + 1):
        one = jax.tree.map(lambda leaf: leaf[None], batch)  # steps take stacked batches
        train, metrics = step(train, constants, one)
        batch = next(batches)
        if number % 5 == 0:
            task, moved = (float(metrics[name][0]) for name in ("task", "divergence/l2_sp"))
            print(f"step {number:>3}   task loss {task:.3f}   l2_sp {moved:.3f}")
    batches.close()


if __name__ == "__main__":
    main()
