"""Broken fields and inputs: each fails exactly its own check."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import pytest
from tlx_image import Image, ImageInput
from tlx_text import BagInput

from tlx.testing import check, failures
from tlx.testing.cases import checks

COUNT = count()


def broken(base, **members):
    """A class like another one with other members; equal and hashed as that is."""
    return dataclass(frozen=True)(type("Odd", (base,), members))


class Unequal:
    """Never equal to another one."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return False


def _float(self, value, name=""):
    return Image.encode(self, value, name).astype(object)


FIELDS = {
    "value": lambda: type(
        "Odd", (Image,), {"__eq__": lambda *_: False, "__hash__": object.__hash__}
    )(),
    "kind": broken(Image, kind=""),
    "reading": broken(Image, read=lambda self, raw, name: Image.read(self, raw, name)[::-1]),
    "refusals": broken(Image, read=lambda self, raw, name: raw + np.uint8(0)),
    "encoding": broken(Image, encode=_float),
    "showing": broken(Image, show=lambda self, value: 3),
    "fingerprints": broken(
        Image, fingerprint=lambda self, value: Image.fingerprint(self, value * 0)
    ),
}


def _restless(self, *values, name):
    return ImageInput.encode(self, *values, name=name) + np.uint8(next(COUNT) % 100)


ODD = {
    "value": type("Odd", (Unequal, ImageInput), {}),
    "form": type("Odd", (ImageInput,), {"kind": 3}),
    "encoding": broken(ImageInput, encode=_restless),
    "preparing": broken(
        ImageInput, prepare=lambda self, a: ImageInput.prepare(self, a) - a.astype("float32").mean()
    ),
    "keeping": broken(
        ImageInput, fitted=lambda self, *_: replace(self, canvas=(next(COUNT) % 50 + 4, 8))
    ),
    "sharing": broken(ImageInput, reading=lambda self, other: self),
}
INPUTS = {name: partial(odd, (8, 8)) for name, odd in ODD.items()}
INPUTS["assets"] = broken(BagInput, with_assets=lambda self, assets: replace(self, words=("a",)))


@pytest.mark.parametrize("name", FIELDS)
def test_a_broken_field_fails_its_own_check_alone(name):
    assert list(failures("fields", FIELDS[name])) == [f"check_{name}"]


@pytest.mark.parametrize("name", INPUTS)
def test_a_broken_input_fails_its_own_check_alone(name):
    assert list(failures("inputs", INPUTS[name])) == [f"check_{name}"]


def test_every_check_bites():
    assert {f"check_{name}" for name in FIELDS} == set(checks("fields"))
    assert {f"check_{name}" for name in INPUTS} == set(checks("inputs"))
    assert len(check("fields", Image)) == len(checks("fields"))
    ran = {*check("inputs", partial(ImageInput, (8, 8))), *check("inputs", BagInput)}
    assert ran == set(checks("inputs"))
