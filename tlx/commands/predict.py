"""The verb that uses a model: what it says of examples.

As in `tlx.cli`, it imports what it needs when it is called. What cannot be read is named and the
others are answered; only a batch of them is in memory at a time.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tlx.commands.options import add_json, trusting

if TYPE_CHECKING:
    from tlx.commands.value_names import Meant
    from tlx.weights.saved import Saved

TOGETHER = 64
"""Lines of text that are aligned and printed at a time."""
LINE = 60
"""Characters of a text that stand in a line beside what is said of it."""


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `predict` to the command line."""
    made = verb("predict", predict)
    made.add_argument("run_dir", metavar="RUN_DIR", help="the folder of a finished run")
    made.add_argument(
        "value", nargs="+", metavar="VALUE",
        help="what the model is given: a file, a folder of files, a pattern such as "
        "'photos/*.jpg', a list of names (@LIST or LIST.txt, one a line) or - for names on stdin; "
        "a text as it is; a table (.csv) for its rows",
    )  # fmt: skip
    made.add_argument(
        "--top", type=int, metavar="K",
        help="show the K most probable classes; only the first is shown if absent",
    )  # fmt: skip
    trusting(made)
    form = made.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument("--csv", action="store_true", help="print a table in CSV; text if absent")


def predict(args: argparse.Namespace) -> None:
    """Say what a finished run's model sees in files or texts."""
    from tlx.commands.value_names import value_names, values_of
    from tlx.contracts.field import StoredInFiles
    from tlx.errors import ConfigError, DataError

    if args.top is not None and args.top < 1:
        raise ConfigError(f"--top is how many classes are shown, 1 or more, not {args.top}.")
    from tlx.weights import saved

    model = saved.load(args.run_dir, trust_code=args.trust_code)
    if len(model.fields) > 1:
        raise ConfigError(
            f"This model is given {', '.join(model.fields)} of each example, and the command line "
            f"has one value of each. Use tlx.load(RUN_DIR).predict in Python."
        )
    ((field_name, field),) = model.fields.items()
    names = values_of(value_names(args.value, sys.stdin.buffer, field), field)
    failed: list[DataError] = []
    answers = _answers(model, names, args.top, failed)
    in_files = isinstance(field, StoredInFiles)
    if args.json:
        _print_json(answers, field_name)
    elif args.csv:
        _print_csv(answers, args.top, field_name)
    else:
        every = [one.name if in_files else _one_line(one.name) for one in names]
        _print_text(answers, args.top, max(map(len, every), default=0), in_files)
    if len(names) == len(failed) == 1:
        raise failed[0]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(names)} {field_name}s could not be read; see above."
        )


def _answers(
    model: Saved, names: list[Meant], top: int | None, failed: list[Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, answer) of every value that can be read; what is wrong with the others is printed
    and put into `failed`."""
    from tlx.commands.prediction_rows import with_classes
    from tlx.data.fields import each_value
    from tlx.errors import DataError

    read: list[str] = []

    ((key, field),) = model.fields.items()

    def encoded() -> Iterator[Any]:
        for name, raw in names:
            try:
                if raw is None:
                    ((called, value),) = each_value(field, name)
                else:
                    called, value = name, field.read(raw, name)
                arrays = model.encode({key: value}, called)
            except DataError as error:
                failed.append(error)
                if len(names) > 1:
                    print(f"tlx: {error}", file=sys.stderr)
            else:
                read.append(name)
                yield arrays

    number = 0
    try:
        for number, answer in enumerate(model.answer(encoded()), start=1):
            yield _printable(read[number - 1]), with_classes(answer, model.classes, top)
    except DataError:
        if read or not failed:
            raise


def _print_text(
    answers: Iterator[tuple[str, Any]], top: int | None, width: int, in_files: bool
) -> None:
    from itertools import islice

    from tlx.commands.prediction_rows import as_text
    from tlx.reporting.wording import aligned

    while chunk := list(islice(answers, TOGETHER)):
        named = ((name if in_files else _one_line(name), answer) for name, answer in chunk)
        print(aligned((name.ljust(width), *as_text(answer, top)) for name, answer in named))


def _one_line(text: str) -> str:
    """The beginning of a text, in a line."""
    line = " ".join(text.split())
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def _print_csv(answers: Iterator[tuple[str, Any]], top: int | None, field: str) -> None:
    from tlx.commands.prediction_rows import as_cells

    rows: Any = None
    for name, answer in answers:
        cells = {field: name, **as_cells(answer, top)}
        if rows is None:
            rows = csv.DictWriter(sys.stdout, list(cells), lineterminator="\n")
            rows.writeheader()
        rows.writerow(cells)


def _print_json(answers: Iterator[tuple[str, Any]], field: str) -> None:
    from tlx.reporting.wording import as_json

    print(as_json([{field: name, **answer} for name, answer in answers]))


def _printable(name: str) -> str:
    """A name with bytes that are no text as it can be printed."""
    return name.encode("utf-8", "backslashreplace").decode()
