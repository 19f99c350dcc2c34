"""Sheets of examples for a report: a model's answers, what a strategy did with pictures, and
which examples its features call alike.

An example is shown as a picture or as a text. A sheet is plain text and data addresses, ready for a
template, which escapes every name and every text in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.reporting.wording import plain, shown
from tlx_report.pictures import embedded


def class_name(label: Any, classes: Sequence[str]) -> str:
    """The name of a class, or the label itself where the data has no name for it."""
    label = plain(label)
    known = isinstance(label, int) and 0 <= label < len(classes)
    return str(classes[label]) if known else shown("", label)


LONG = 400
"""Characters of a text that are shown."""


def look_of(shown_as: Any) -> dict[str, str]:
    """The `text` of an example, or the address of its `picture`."""
    if not isinstance(shown_as, str):
        return {"picture": embedded(shown_as)}
    return {"text": shown_as if len(shown_as) <= LONG else f"{shown_as[:LONG]}…"}


def answers(
    samples: Sequence[Mapping[str, Any]], classes: Sequence[str], most: int
) -> list[tuple[str, list[dict[str, str]]]]:
    """Wrong and right examples with their captions, `most` together."""
    wrong = [s for s in samples if plain(s["label"]) != plain(s["predicted"])]
    right = [s for s in samples if plain(s["label"]) == plain(s["predicted"])]
    wrong = wrong[: max(most // 2, most - len(right))]

    def card(s: Mapping[str, Any]) -> dict[str, str]:
        sure = s.get("probability")
        return {
            **look_of(s["text"] if "text" in s else s["image"]),
            "predicted": class_name(s["predicted"], classes),
            "truth": class_name(s["label"], classes),
            "sure": "" if sure is None else f"{100 * float(sure):.0f} %",
        }

    found = {"Wrong": wrong, "Right": right[: most - len(wrong)]}
    return [(heading, [card(s) for s in few]) for heading, few in found.items()]


COUNTED = 40
"""Classes whose pictures are counted in a table; of more, the fewest and the most."""


def data_sheet(
    data: Mapping[str, Any], training: Mapping[str, Sequence[Any]] | None
) -> dict[str, Any] | None:
    """A `table` of examples of each class by split, heading first, a `note` where there are too
    many classes for one, and `rows` of (class, training examples), which are `texts` or not."""
    counts = data.get("counts") or {}
    names = list(dict.fromkeys(name for found in counts.values() for name in found))
    rows = [(str(name), [look_of(one) for one in some])
            for name, some in (training or {}).items()]  # fmt: skip
    if not names and not rows:
        return None
    texts = any("text" in one for _, some in rows for one in some)
    table = [["class", *counts]]
    table += [[str(n), *(shown("", found.get(n, 0)) for found in counts.values())] for n in names]
    note = ""
    if len(names) > COUNTED:
        train = [int(n) for n in next(iter(counts.values())).values()]
        table = []
        note = (
            f"{len(names)} classes, with {shown('', min(train))} to {shown('', max(train))} "
            f"training {'texts' if texts else 'pictures'} each."
        )
    return {"table": table if names else [], "note": note, "rows": rows, "texts": texts}


def drawings(drawn: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`titles` that head columns, and `blocks` of rows with a picture for each of them: two
    blocks, to stand beside each other, where a row is short."""
    if not drawn:
        return None
    rows = [[embedded(picture) for picture in row] for row in zip(*drawn.values(), strict=True)]
    half = -(-len(rows) // 2) if len(drawn) <= 4 else len(rows)
    blocks = [block for block in (rows[:half], rows[half:]) if block]
    return {"titles": [str(title) for title in drawn], "blocks": blocks}


def neighbours(found: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """`rows` of an example and those `nearest` to it, the nearest first, each with its class and
    whether that is `wrong`; `agreed` says how many of them have the class of their example. Without
    labels there is no name below one and nothing is wrong."""
    if not found or not len(found["pictures"]):
        return None
    near = np.asarray(found["nearest"])
    known = found.get("labels") is not None and found.get("nearest_labels") is not None
    labels = np.asarray(found["labels"]) if known else np.zeros(near.shape[0], int)
    others = np.asarray(found["nearest_labels"]) if known else np.zeros(near.shape[:2], int)
    same = others == labels[:, None]

    def card(picture: Any, label: Any, wrong: bool = False) -> dict[str, Any]:
        name = class_name(label, classes) if known else ""
        return {**look_of(picture), "name": name, "wrong": wrong}

    rows = [
        (
            card(picture, labels[i]),
            [card(p, others[i, j], not same[i, j]) for j, p in enumerate(near[i])],
        )
        for i, picture in enumerate(found["pictures"])
    ]
    noun = "text" if any("text" in one for one, _ in rows) else "picture"
    agreed = f"{same.sum()} of these {same.size} have the class of their {noun}" if known else ""
    return {"rows": rows, "agreed": agreed, "noun": noun}
