"""A score says what it needs by name, and is refused in a sentence otherwise."""

import pytest

from tlx import registry
from tlx.contracts.scoring import asked
from tlx.errors import ContractError


def test_the_words_are_the_parameters():
    def mine(*, features, labels):
        return 0.0

    assert asked(mine) == {"features", "labels"}


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (lambda *, feature: 0.0, "which a ranking does not have. Did you mean 'features'?"),
        (lambda *, params: 0.0, "Did you mean 'parameters'?"),
        (lambda **words: 0.0, r"takes \*\*words"),
        (lambda *, labels=None: 0.0, "gives 'labels' a default"),
    ],
)
def test_what_is_no_word_is_refused(score, sentence):
    with pytest.raises(ContractError, match=sentence):
        asked(score, "mine")


def test_a_bare_function_is_a_score(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def spread(features):\n    return float(features.std())\n")
    score = registry.build("scores", f"{file}:spread")
    assert asked(score) == {"features"}
