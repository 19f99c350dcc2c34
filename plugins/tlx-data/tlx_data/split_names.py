"""Which split a folder means by its name.

Names are read in any case, with or without 'set', 'data' or 'images' behind them. A name that only
has such a word in it (`seg_train`, `test1`) may mean a split or may not: it is a hint for a
question and decides nothing.
"""

from __future__ import annotations

import re

MEANINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating"), "val"),
    **dict.fromkeys(("dev", "development"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst", "eval", "evaluation"), "test"),
}
"""Words and the splits that they mean. 'eval' is the test, as it is for the Hugging Face hub."""
THINGS = r"(sets?|split|data|dataset|images?|imgs?|pictures?|photos?|examples|samples|folder|dir)"


def meaning(name: str) -> str | None:
    """The split that a folder's name means, None where it means none."""
    bare = re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()
    without = re.sub(rf"\s?{THINGS}$", "", bare)
    return MEANINGS.get(bare) or MEANINGS.get(without)


def hint(name: str) -> str | None:
    """The split that a part of a name would mean alone, None where there are none or several."""
    words = re.split(r"[^a-z]+", name.casefold())
    found = {MEANINGS[word] for word in words if word in MEANINGS}
    return found.pop() if len(found) == 1 else None
