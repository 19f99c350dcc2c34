"""A model begins with the numbers of a file; the rest is what `init` draws, and only that."""

import jax
import jax.numpy as jnp
import numpy as np
from tlx_image import ImageInput

from tlx import registry, trees
from tlx.backbones.functions import wrap_functions
from tlx.model import Model
from tlx.types import Variables, unlabelled
from tlx.weights.initial import Initial

BATCH = unlabelled({"image": jnp.zeros((1, 4, 4, 3), jnp.uint8)})


def counting(drawn: list[int]) -> Model:
    """A model whose backbone says when its numbers are really drawn."""

    def init(rng, x):
        shape = (3, 5)

        def draw(key):
            drawn.append(1)
            return np.ones(shape, np.float32)

        kernel = jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, jnp.float32), rng)
        return {"kernel": kernel, "bias": jax.random.normal(rng, (5,))}

    def apply(params, x):
        return {"pooled": x.mean((1, 2)) @ params["kernel"] + params["bias"]}

    backbone = wrap_functions(init, apply, ("pooled",), ImageInput(size=(4, 4)))
    head = registry.build("heads", "softmax", given={"classes": 2})
    return Model(backbone, head, backbone.inputs)


def test_what_no_file_gave_is_what_init_draws():
    model = counting([])
    initial = Initial(model, jax.random.key(3), BATCH)
    found = trees.flat(initial.filled(initial.shapes))
    for path, leaf in trees.flat(model.init(jax.random.key(3), BATCH)).items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-6, err_msg=path)


def test_what_a_file_gave_is_kept_and_never_drawn():
    drawn: list[int] = []
    initial = Initial(counting(drawn), jax.random.key(3), BATCH)
    shapes, kernel = initial.shapes, jnp.full((3, 5), 7.0)
    params = {**shapes.params, "backbone": {**shapes.params["backbone"], "kernel": kernel}}
    found = initial.filled(Variables(params, shapes.state))
    jax.block_until_ready(found)
    assert found.params["backbone"]["kernel"] is kernel
    assert not drawn
    assert np.ptp(found.params["backbone"]["bias"]) > 0
    assert np.ptp(found.params["head"]["kernel"]) > 0
    jax.block_until_ready(initial.filled(shapes))
    assert drawn  # or else this test could not fail
