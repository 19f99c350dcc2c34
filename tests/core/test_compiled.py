"""A program is compiled with the options that the compiler at hand knows."""

import jax
import pytest

from tlx.devices import compiled as compiling


@pytest.mark.parametrize("compiled", [compiling.compiled, compiling.compiled_for_once])
def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch, compiled):
    asked = {jax.default_backend(): {"xla_cpu_no_such_thing": True}}
    monkeypatch.setattr(compiling, "COMPILER_OPTIONS", asked)
    monkeypatch.setattr(compiling, "FOR_ONCE", asked)
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options=asked[jax.default_backend()])(1)
    assert compiled(lambda x: x + 1)(1) == 2


def test_a_value_that_makes_no_sense_is_not_passed_over(monkeypatch):
    asked = {jax.default_backend(): {"xla_backend_optimization_level": "very"}}
    monkeypatch.setattr(compiling, "COMPILER_OPTIONS", asked)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_backend_optimization_level"):
        compiling.compiled(lambda x: x + 1)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the options are those of a CPU")
def test_the_options_of_today_are_known_to_the_compiler_that_they_were_measured_with():
    if not jax.__version__.startswith("0.10."):
        pytest.skip(f"they were measured with jax 0.10.2; this is {jax.__version__}")
    for wanted in (compiling.COMPILER_OPTIONS, compiling.FOR_ONCE):
        assert compiling._known(wanted) == wanted["cpu"]
