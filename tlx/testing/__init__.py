"""The conformance kit: what every plugin must do, as tests that a plugin author runs.

Each kind of plugin has a module of small named checks; a check raises ContractError with a
sentence that says what the contract demands and what was seen. A plugin's own test file is

    import pytest
    from tlx.testing import cases

    @pytest.mark.parametrize("case", cases(distribution="tlx-mine"))
    def test_conformance(case):
        case()

and `check(kind, factory)` runs all checks of a kind over something that is not installed;
`failures` tells all that is wrong with it at once.
"""

from tlx.testing.cases import Case, cases, check, checks, failures
from tlx.testing.claims import NotApplicable

__all__ = ["Case", "NotApplicable", "cases", "check", "checks", "failures"]
