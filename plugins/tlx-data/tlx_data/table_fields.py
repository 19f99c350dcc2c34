"""Which fields the rows of a table have, and of which columns.

A run file says them in `[data.fields.NAME]`: the kind of a field, its column or columns, and
whether it is a target. What it leaves open is found: a column of pictures, or else a row of all
columns that are nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tlx import registry
from tlx.contracts.field import Field
from tlx.errors import DataError, did_you_mean, listed
from tlx.types import LabelKind
from tlx_data.table_columns import (
    LABELS,
    Cells,
    find_labels,
    find_picture,
    plain,
    refuse_absent,
)

KEYS = ("kind", "column", "columns", "role")
LABEL = "label"
"""The kind of a target whose form the head of a run decides; it is no plugin."""


class Stated(NamedTuple):
    """A field as a run file has it; without `columns` they are to be found. `many`: its kind takes
    several. `options` are those of the kind."""

    kind: str
    columns: tuple[str, ...] = ()
    target: bool = False
    many: bool = False
    options: Mapping[str, Any] = {}

    def built(self, columns: Sequence[str]) -> Field:
        """The field over its columns."""
        of_many = {"columns": list(columns)} if self.many else {}
        return registry.build("fields", self.kind, {**of_many, **self.options})


class TableFields(NamedTuple):
    """The fields of a table but for its label, by name, and the columns of each; those of a `rest`
    are all that are nothing else. `label` is what the label is called, "" where there is none, and
    `labels` are its columns."""

    fields: Mapping[str, Stated]
    label: str
    labels: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def taken(self) -> tuple[str, ...]:
        """The columns that are read as something already."""
        return (*self.labels, *(c for one in self.fields.values() for c in one.columns))

    def completed(self, columns: Sequence[str], where: str) -> TableFields:
        """With the columns that are nothing else in the row that takes them."""
        rest = tuple(column for column in columns if column and column not in self.taken)
        found, notes = dict(self.fields), list(self.notes)
        open_ = [name for name, one in found.items() if not one.columns]
        if len(open_) > 1:
            raise DataError(f"{where}: say the columns of the fields {listed(map(repr, open_))}.")
        for name in open_:
            one = found[name]
            if not rest:
                raise DataError(f"{where} has no column that is left for the field {name!r}.")
            found[name] = one._replace(columns=rest)
            notes.append(f"The field {name!r} is {listed(map(repr, rest))}.")
        return self._replace(fields=found, notes=tuple(notes))


def find_fields(
    columns: Sequence[str],
    where: str,
    *,
    stated: Mapping[str, Any],
    image: str | None,
    label: str | tuple[str, ...] | None,
    split: str | bool | None,
    kind: LabelKind | None,
    cells: Cells,
    needed: bool = True,
) -> TableFields:
    """The fields of a table with these `columns`; `cells` are the first few of one. A label that is
    not `needed` is read where one column has the name of one. Raises
    DataError, opening with `where`, for what is not there or could be several."""
    fields = {name: _stated(name, one, columns, where) for name, one in stated.items()}
    target = next((name for name, one in fields.items() if one.kind == LABEL), None)
    said = fields.pop(target).columns if target else ()
    labels = said or ((label,) if isinstance(label, str) else tuple(label or ()))
    for wanted in filter(None, (image, *labels, split if isinstance(split, str) else None)):
        refuse_absent(wanted, columns, where)
    if len(set(labels)) < len(labels) or label == ():
        raise DataError(f"{where}: label lists its columns, each once.")
    _refuse_leak(fields, labels, where)
    taken = [*labels, *(c for one in fields.values() for c in one.columns)]
    fields, picture = _with_inputs(fields, image, columns, taken, where, cells)
    if not labels and not any(one.target for one in fields.values()):
        taken += [picture, split]
        if needed or sum(plain(name) in LABELS for name in columns if name not in taken) == 1:
            labels = find_labels(columns, taken, where, kind, cells)
    usual = not picture or image or picture.lower() == "image"
    read = [] if usual else [f"the pictures in {picture!r}"]
    read += [] if said or label or labels in ((), ("label",)) else [
        f"the labels in {listed(map(repr, labels))}"
    ]  # fmt: skip
    notes = (f"The table has {' and '.join(read)}.",) if read else ()
    return TableFields(fields, (target or LABEL) if labels else "", labels, notes)


def _with_inputs(
    fields: dict[str, Stated],
    image: str | None,
    columns: Sequence[str],
    taken: Sequence[str],
    where: str,
    cells: Cells,
) -> tuple[dict[str, Stated], str]:
    """The fields with an input among them, and the column of pictures where that was found."""
    inputs = [name for name, one in fields.items() if not one.target]
    if inputs and not image:
        sought = [name for name in inputs if fields[name].kind == "image"]
        sought = [name for name in sought if not fields[name].columns]
        if not sought:
            return fields, ""
        if not (found := find_picture(columns, taken, where, cells)):
            raise DataError(f"{where} has no column of pictures for the field {sought[0]!r}.")
        return {**fields, sought[0]: fields[sought[0]]._replace(columns=(found,))}, found
    found = image or find_picture(columns, taken, where, cells)
    if found:
        name = next((n for n in inputs if fields[n].kind == "image"), "image")
        one = fields.get(name, Stated("image"))._replace(columns=(found,))
        return {name: one} | fields | {name: one}, found
    if not any(columns):
        raise DataError(f"{where} has no columns: its first line names none.")
    return {"row": Stated("row", many=True), **fields}, ""


def _stated(name: str, table: Any, columns: Sequence[str], where: str) -> Stated:
    """What `[data.fields.NAME]` says."""
    at = f"[data.fields.{name}]"
    column, several, role = table.get("column"), table.get("columns"), table.get("role")
    if column is not None and several is not None:
        raise DataError(f"{at} has column and columns; it is one or the other.")
    given = (column,) if isinstance(column, str) else tuple(several or ())
    for one in given:
        refuse_absent(one, columns, where)
    if role not in (None, "input", "target"):
        raise DataError(f'{at} has the role {role!r}; it is "input" or "target".')
    kinds = (LABEL, *(plugin.name for plugin in registry.find("fields")))
    usual = LABEL if role == "target" else name if name in kinds else "row" if several else None
    kind = table.get("kind", usual)
    if kind is None:
        raise DataError(f"{at} has no kind; it is one of {listed(map(repr, kinds))}.")
    target = role == "target" or (kind == LABEL and role is None)
    if kind == LABEL:
        if not target:
            raise DataError(f"{at} is a label, which is a target and no input.")
        return Stated(kind, given or _only(name, columns, at), target)
    if kind not in kinds and ".py:" not in kind:
        raise DataError(
            f"{at} has the kind {kind!r}, which is not installed.{did_you_mean(kind, kinds)} "
            f"Installed are {listed(map(repr, kinds))}."
        )
    options = {key: value for key, value in table.items() if key not in KEYS}
    many = "columns" in {o.name for o in registry.schema(registry.load("fields", kind))}
    if not many and len(given) > 1:
        raise DataError(f"{at}: the kind {kind!r} takes one column, not {len(given)}.")
    if not many and not given and kind != "image":
        given = _only(name, columns, at)
    return Stated(kind, given, target, many, options)


def _only(name: str, columns: Sequence[str], at: str) -> tuple[str, ...]:
    """The column that is called as its field is."""
    if name not in columns:
        near = did_you_mean(name, columns)
        raise DataError(f'{at} names no column. Say which: column = "...".{near}')
    return (name,)


def _refuse_leak(fields: Mapping[str, Stated], labels: Sequence[str], where: str) -> None:
    """What is to be predicted is not given."""
    for name, one in fields.items():
        if both := [column for column in one.columns if column in labels]:
            raise DataError(
                f"{where}: the column {both[0]!r} is the label, and the field {name!r} has it, "
                f"too, so that a network would be given what it is to predict."
            )
