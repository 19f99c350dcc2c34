"""Values from TOML against Python annotations, with problems as sentences.

pydantic does the checking. Strict JSON rules apply: a list may become a tuple and an integer a
float, but `"3"` is no number and `3.5` no integer. Opens without importing pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


def fitted(annotation: Any, value: Any, where: str) -> tuple[Any, list[str]]:
    """(`value` as `annotation` wants it, []) or (`value`, sentences that open with `where`).

    An annotation that pydantic cannot read is not checked. A value that is not JSON (an array,
    a function; only Python callers have those) is checked by Python's looser rules."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation

    try:
        try:
            adapter = TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
        except PydanticUserError:  # a dataclass or model brings its own configuration
            adapter = TypeAdapter(annotation)
    except (PydanticUserError, PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return value, []
    try:
        try:
            return adapter.validate_json(json.dumps(value), strict=True), []
        except (TypeError, ValueError) as error:
            # ValidationError is a ValueError; only this one means that JSON is not the way.
            if isinstance(error, ValidationError) and "needs_python_object" not in _types(error):
                raise
            return adapter.validate_python(value), []
    except ValidationError as error:
        return value, sentences(error, value, where)


def sentences(error: ValidationError, value: Any, where: str) -> list[str]:
    """One sentence per place in `value` that is wrong: `a.b: Input should be ..., not 3.`

    The branches of a union that all refuse one place are joined by 'or'."""
    found: dict[str, tuple[list[str], Any]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        place, reached = _place(detail["loc"], value)
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        message = _WORDS.get(detail["type"], message)
        messages, _ = found.setdefault(joined(where, place), ([], reached))
        if detail["type"] == "missing":
            key = detail["loc"][-1]
            found.pop(joined(where, place))
            found[joined(where, [*place, str(key)])] = (["is required"], _MISSING)
        elif message not in messages:
            messages.append(message)
    return [_sentence(place, messages, got) for place, (messages, got) in found.items()]


def joined(*parts: str | Iterable[str]) -> str:
    """A dotted path of the parts that are not empty."""
    flat = [p for part in parts for p in ([part] if isinstance(part, str) else part)]
    return ".".join(p for p in flat if p)


def _types(error: ValidationError) -> set[str]:
    return {detail["type"] for detail in error.errors(include_url=False)}


_MISSING = object()
_WORDS = {
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    "too_short": "a list that is not empty",
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "dataclass_type"), "a table"),
}
"""TOML's words for what pydantic calls otherwise."""


def _sentence(place: str, messages: list[str], got: Any) -> str:
    if got is _MISSING:
        return f"{place}: {messages[0]}."
    text = json.dumps(got, default=repr)
    text = text if len(text) < 60 else text[:57] + "..."
    return f"{place}: should be {' or '.join(messages)}, not {text}."


def _place(loc: Iterable[str | int], value: Any) -> tuple[list[str], Any]:
    """The keys of `loc` that lead somewhere in `value` (the rest name branches of a union)."""
    place = []
    for key in loc:
        if (isinstance(value, Mapping) and key in value) or (
            isinstance(value, (list, tuple)) and isinstance(key, int) and key < len(value)
        ):
            place.append(str(key))
            value = value[key]  # type: ignore[index]  # guarded by the two lines above
    return place, value
