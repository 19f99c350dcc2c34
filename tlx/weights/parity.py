"""Whether a loaded network computes what the original computes, layer by layer.

The original is run once where it lives, and its input and the outputs of its layers are kept in
an `.npz`. Here the same input runs through the loaded network in mode 'eval'; the first layer
whose output is another one is where the two part ways.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx import registry
from tlx.backbones.wrapping import abstract_input
from tlx.config import WeightsConfig
from tlx.contracts.calls import called
from tlx.contracts.input import ports_of
from tlx.data.inputs import as_inputs, fit_backbone, trained_inputs
from tlx.errors import Refused, WeightsError, listed
from tlx.files import plain_arrays
from tlx.model import Model
from tlx.protocols import Backbone, Traced
from tlx.run_file.weight_reference import reference
from tlx.trees import flat
from tlx.types import LoadReport, Tensors, Variables
from tlx.weights import sources
from tlx.weights.initial import backbone_leaves
from tlx.weights.places import find_place
from tlx.weights.reference_layers import HEAD, Place, homes, translated
from tlx.weights.refusals import tensors_of

INPUT, LAYOUT = "input", "layout"
"""What a reference file holds beside layers: the input (B,H,W,C) as the network takes it,
normalised, and how the activations lie, 'NHWC' or 'NCHW'."""


class Compared(NamedTuple):
    """One layer: its path here, its name in the reference, its shape, the greatest absolute
    error, and the same relative to the reference's largest number."""

    layer: str
    name: str
    shape: tuple[int, ...]
    error: float
    relative: float


class Network(NamedTuple):
    """A loaded network with the file that it came from."""

    model: Model
    variables: Variables
    tensors: Tensors
    report: LoadReport


def load(
    weights: str,
    backbone: str,
    options: Mapping[str, Any] | None = None,
    allow: tuple[str, ...] = (),
    *,
    key: str = "",
    prefix: str = "",
    trust_code: bool = False,
) -> Network:
    """The backbone with the numbers of a file, and a linear head where the file has one; `key` and
    `prefix` say where in the file it is, `trust_code` as for `tlx.load`.

    Raises WeightsError where the file is of another network, as far as no glob of `allow` covers
    it."""
    options_of_file = {"key": key} if key else {}
    config = WeightsConfig(
        name=reference(weights), options=options_of_file, allow=allow, prefix=prefix
    )
    source = sources.open_weights(config, trust_code=trust_code)
    body: Backbone = registry.build("backbones", backbone, options)
    tensors = tensors_of(config.name, source)
    ports = ports_of(trained_inputs(body, source))
    body = fit_backbone(body, ports)
    classes = _classes(tensors, body, prefix)
    head = registry.build("heads", "softmax", given={"classes": classes}) if classes else None
    model = Model(body, head, as_inputs(ports))
    found = sources.load(config, source, sources.begun(model))
    loaded = found.source  # without the head where that is of another kind
    return Network(loaded.model, loaded.variables, tensors, found.report)


def verify(network: Network, file: Path, tolerance: float) -> dict[str, Any]:
    """How every layer of the reference in `file` compares, in the order in which layers run;
    `tolerance` is the error that a layer may have relative to its largest number.

    `agree`, `layers` (see `Compared`), `first_difference` (one of them, or None), `not_compared`
    [(name, why)]. Raises WeightsError for a file that is no reference or names no layer."""
    arrays = read(file)
    wanted = {name: a for name, a in arrays.items() if name not in (INPUT, LAYOUT)}
    got = activations(network, _input(arrays, network, file))
    places = _places(network, wanted, got)
    names: dict[str, list[str]] = {}
    skipped = []
    for name in wanted:
        place, outer = places.get(name), name.rpartition(".")[0]
        if place is None:
            skipped.append((name, "no layer here is called that, or several are"))
        elif place.block and (around := places.get(outer)) and around.layer == place.layer:
            skipped.append((name, f"{outer} is the one that ends where {place.layer} does"))
        elif place.block and not _alike(wanted[name], got[place.layer]):
            skipped.append((name, f"it ends elsewhere than {place.layer}: another shape"))
        else:
            names.setdefault(place.layer, []).append(name)
    if not names:
        raise WeightsError(
            f"{file} names no layer of this network. It holds {listed(list(wanted)[:5])}; here "
            f"there is {listed(list(got)[:5])}."
        )
    layout = _layout(arrays, {n: got[layer] for layer in names for n in names[layer]}, file)
    compared = [
        _compared(layer, name, got[layer], _laid(wanted[name], got[layer], layout))
        for layer in got
        for name in names.get(layer, ())
    ]
    first = next((row for row in compared if not row.relative <= tolerance), None)
    return {
        "agree": first is None,
        "tolerance": tolerance,
        "reference": str(file),
        "layers": [row._asdict() for row in compared],
        "first_difference": first and first._asdict(),
        "not_compared": skipped,
    }


def _places(network: Network, wanted: Collection[str], layers: Collection[str]) -> dict[str, Place]:
    """Recorded name -> the layer here, by the dialect that knows most of them: a network may call
    its layers otherwise in memory than in its file."""
    paths = flat(network.variables)
    best: dict[str, Place] = {}
    for dialect in (None, *sources.foreign_names(network.model.backbone)):
        named = [dialect.name_of(path) for path in paths] if dialect else []
        tensors = {one[0] for one in named if one}
        if dialect and dialect.name == network.report.dialect:
            tensors |= set(network.tensors.values)
        filled = homes(tensors, dialect)
        found = {name: translated(name, filled, layers) for name in wanted}
        known = {name: place for name, place in found.items() if place}
        best = known if len(known) > len(best) else best
    return best


def activations(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    """Layer -> output for `x` (B,H,W,C) in mode 'eval', in the order in which layers end; then
    the features, where they are no layers, and the outputs of the head."""
    run, order = _tracer(network.model)
    with jax.default_matmul_precision("highest"):
        values = jax.device_get(run(network.variables, x))
    return dict(zip(order, values, strict=True))


@lru_cache(maxsize=2)
def _tracer(model: Model) -> tuple[Callable[..., list[jax.Array]], list[str]]:
    """A jitted pass that returns all outputs, and their names once it was traced: a mapping
    would lose its order in jit."""
    body, key = model.backbone, jax.random.key(0)
    order: list[str] = []

    @jax.jit
    def run(variables: Variables, x: jax.Array) -> list[jax.Array]:
        params, state = variables
        own, stats = params["backbone"], state["backbone"]
        with called(body, "backbone", "trace"):
            found = dict(body.trace(own, stats, x)) if isinstance(body, Traced) else {}
        with called(body, "backbone", "apply"):
            features, _ = body.apply(own, stats, x, rng=key, mode="eval")
        found = {**found, **features}
        if model.head is not None:
            inputs = {port.entry: x for port in model.ports}
            found[HEAD], _ = model.apply_head(
                variables, features, inputs=inputs, rng=key, mode="eval"
            )
        order[:] = found
        return list(found.values())

    return run, order


def write(network: Network, file: Path, x: np.ndarray | None = None) -> int:
    """Keep this network's own activations as a reference for another machine; how many layers.

    `x` is the input, a normal one where it is None. Raises WeightsError where the file exists."""
    if file.exists():
        raise WeightsError(f"{file} exists already. Remove it, or write elsewhere.")
    if x is None:
        _, like = abstract_input(network.model.backbone)
        x = np.random.default_rng(0).normal(size=(2, *like.shape[1:])).astype(np.float32)
    found = activations(network, x)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as opened:
        arrays: dict[str, Any] = {INPUT: x, LAYOUT: np.array("NHWC"), **found}
        np.savez(opened, **arrays)
    partial.replace(file)
    return len(found)


def reading(file: Path, network: Network) -> np.ndarray:
    """The input (B,H,W,C) of a reference."""
    return _input(read(file), network, file)


def beside(weights: str) -> Path:
    """Where the reference of a file of weights lies unless it is named."""
    path = Path(reference(weights).partition(":")[2] or weights).expanduser()
    return path / "reference.npz" if path.is_dir() else path.with_name(f"{path.name}.reference.npz")


def read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a reference. Raises WeightsError for what is none."""
    try:
        with file.open("rb") as opened:
            arrays = plain_arrays.arrays(opened)
    except FileNotFoundError:
        raise WeightsError(f"There is no reference {file}.") from None
    except Refused as why:
        raise WeightsError(f"{file} {why}") from None
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
        raise WeightsError(f"{file} cannot be read as a reference: {error}.") from error
    if INPUT not in arrays:
        raise WeightsError(
            f"{file} is no reference: it has no array {INPUT!r}, only {listed(list(arrays)[:5])}."
        )
    return arrays


def _classes(tensors: Tensors, backbone: Backbone, prefix: str) -> int:
    """How many outputs the file's linear head has; 0 where it has none."""
    bias, dialects = "params/head/bias", sources.foreign_names(backbone)
    like = backbone_leaves(backbone)
    place = find_place(tensors.values, like, dialects, prefix, tensors.origin)
    for name, tensor in tensors.values.items():
        paths = [name, *(path for path, _ in place.leaves(name))]
        if bias in paths and tensor.ndim == 1 and len(tensor) > 1:
            return len(tensor)
    return 0


def _input(arrays: Mapping[str, np.ndarray], network: Network, file: Path) -> np.ndarray:
    x, (_, like) = arrays[INPUT], abstract_input(network.model.backbone)
    channels = like.shape[-1]
    if x.ndim == 4 and x.shape[-1] != channels and x.shape[1] == channels:
        x = np.moveaxis(x, 1, -1)
    if x.ndim != like.ndim or x.shape[-1] != channels or not np.issubdtype(x.dtype, np.floating):
        raise WeightsError(
            f"The input in {file} is {x.shape} {x.dtype}; this network takes floats of shape "
            f"(B,{'H,W,' if like.ndim == 4 else ''}{channels}), prepared as it wants them."
        )
    return np.ascontiguousarray(x, np.float32)


def _layout(arrays: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], file: Path) -> str:
    """'NHWC' or 'NCHW': as the file says, else as the first shape that leaves no choice says."""
    if LAYOUT in arrays:
        said = str(arrays[LAYOUT])
        if said not in ("NHWC", "NCHW"):
            raise WeightsError(f"The layout in {file} is {said!r}; it is 'NHWC' or 'NCHW'.")
        return said
    for name, ours in got.items():
        theirs = arrays[name]
        fits = {k: _nhwc(theirs, k).shape == ours.shape for k in ("NHWC", "NCHW")}
        if theirs.ndim == 4 and fits["NHWC"] != fits["NCHW"]:
            return "NHWC" if fits["NHWC"] else "NCHW"
    return "NHWC"


def _laid(array: np.ndarray, ours: np.ndarray, layout: str) -> np.ndarray:
    """As it lies here. Some networks turn their maps round in the middle: where only the other
    layout fits, it is that one."""
    other = "NHWC" if layout == "NCHW" else "NCHW"
    fits = [_nhwc(array, one) for one in (layout, other)]
    return next((one for one in fits if one.shape == ours.shape), fits[0])


def _alike(array: np.ndarray, ours: np.ndarray) -> bool:
    return array.size == ours.size and array.shape[:1] == ours.shape[:1]


def _nhwc(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim == 4 and layout == "NCHW" else array


def _compared(layer: str, name: str, got: np.ndarray, wanted: np.ndarray) -> Compared:
    if got.shape != wanted.shape:
        if got.size != wanted.size or got.shape[0] != wanted.shape[0]:
            return Compared(layer, name, wanted.shape, float("inf"), float("inf"))
        got = got.reshape(wanted.shape)  # a pooled map (B,1,1,C) is a vector (B,C) here
    error = float(np.abs(got.astype(np.float64) - wanted).max(initial=0))
    scale = float(np.abs(wanted).max(initial=0))
    return Compared(layer, name, wanted.shape, error, error / scale if scale else error)
