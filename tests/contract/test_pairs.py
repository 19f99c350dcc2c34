"""Every installed strategy with every installed divergence."""

from collections import Counter

import pytest

from tlx.testing.pairs import Setting, check_traced, check_trained, covering, pairs, setting

STRATEGIES = sorted({pair.strategy for pair in pairs()})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_pair_is_traced_or_refused_with_a_sentence(strategy):
    for pair in pairs():
        if pair.strategy == strategy:
            check_traced(pair)


@pytest.mark.slow
def test_a_covering_set_is_trained():
    """Each strategy and each divergence alone is trained by its own checks, in every run."""
    chosen = covering()
    for pair in chosen:
        check_trained(pair)
    # Nothing is left out but what nothing goes together with.
    allowed = [pair for pair in pairs() if isinstance(setting(pair), Setting)]
    for side in ("strategy", "divergence"):
        assert {getattr(p, side) for p in chosen} == {getattr(p, side) for p in allowed}


def test_most_pairs_go_together():
    """A refusal for all would pass the tests above."""
    found = Counter(isinstance(setting(pair), Setting) for pair in pairs())
    assert found[True] > found[False]
