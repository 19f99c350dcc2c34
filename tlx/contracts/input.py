"""How a network wants the values that it is given, for each of its ports.

A value is encoded on the host, in the same way in training, evaluation and prediction, and prepared
on the device, inside of the compiled step. An input is a frozen dataclass whose fields are its
configuration; it travels with the weights and is written in a model's folder. Opens without
importing jax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from tlx.contracts.field import Warp

PyTree: TypeAlias = Any


@runtime_checkable
class Input(Protocol):
    """How one port of a network wants a value; `kind` is that of the field that it takes
    (`tlx.contracts.field`). Equal ones give equal arrays."""

    kind: ClassVar[str]

    def encode(self, *values: Any, name: str) -> PyTree:
        """On the host: the arrays, of a fixed shape, of one example's value, or of several where
        the port is bound to several fields. Raises DataError, calling it `name`, for what is
        none."""
        ...

    def prepare(self, arrays: PyTree) -> PyTree:
        """On the device: encoded arrays (B,...) as the network wants them."""
        ...

    def example(self) -> PyTree:
        """The shapes (`jax.ShapeDtypeStruct`) of what is encoded of one example, (1,...)."""
        ...


@runtime_checkable
class FitsInput(Protocol):
    """Optional for an Input: something of it is learnt from the data, such as a vocabulary, a
    standardisation, or the size of a canvas."""

    def fitted(self, fields: Sequence[Any], values: Callable[[], Iterable[tuple[Any, ...]]]) -> Any:
        """The input with what it lacks: `fields` are those that its port is bound to, `values()`
        those of every training example, a tuple of one for each field. What came with weights
        stays as it is. Raises ConfigError or DataError where the data do not say it."""
        ...


@runtime_checkable
class MergesInput(Protocol):
    """Optional for an Input: what a file of weights, a backbone and a run file say of it is put
    together in another way than attribute by attribute."""

    def merged(self, backbone: Any, stated: Mapping[str, Any]) -> Any:
        """This input, which comes with weights, for a `backbone`'s own one, changed by what a run
        file has `stated`. Raises ConfigError for what the network cannot take."""
        ...


@runtime_checkable
class SharesEntry(Protocol):
    """Optional for an Input: it can read what another one has encoded, so that two networks are
    given the same arrays. Without it only an equal one can."""

    def reading(self, other: Any) -> Any | None:
        """This input for arrays that `other` encodes; None where it cannot read them."""
        ...


@runtime_checkable
class WarnsOfValues(Protocol):
    """Optional for an Input: it sees of a few values that they are not what the network was
    trained on."""

    def warnings(self, values: Sequence[Any], *, pretrained: bool) -> tuple[str, ...]:
        """Sentences for the first lines of a run; of networks that are not `pretrained` only what
        is so for random weights, too."""
        ...


@runtime_checkable
class AugmentsValues(Protocol):
    """Optional for an Input: encoded arrays have another form while they are augmented."""

    def to_augment(self, arrays: PyTree) -> PyTree:
        """Encoded arrays (B,...) as augmentations change them; `prepare` takes them, too."""
        ...


@runtime_checkable
class DescribesInput(Protocol):
    """Optional for an Input: other libraries can be told of it."""

    def describe(self) -> Mapping[str, Any]:
        """Its entries in timm's `pretrained_cfg`."""
        ...


@runtime_checkable
class HasAssets(Protocol):
    """Optional for an Input: large parts of it, such as a vocabulary, are files of their own in a
    model's folder, and no options in its description."""

    def assets(self) -> Mapping[str, bytes]:
        """The content of each, by the name of the option that it stands for."""
        ...

    def with_assets(self, assets: Mapping[str, bytes]) -> Any:
        """This input, made of its other options, with what they hold."""
        ...


@runtime_checkable
class FitsBackbone(Protocol):
    """Optional for a Backbone: what its inputs have learnt from data decides its shapes, such as
    the rows of its table of embeddings."""

    def for_inputs(self, inputs: Inputs) -> Any:
        """The backbone for inputs that are fitted, in the form of its own `inputs`."""
        ...


@runtime_checkable
class Places(Protocol):
    """Optional for an Input: its values lie on a plane, and `encode` brings them to another one, as
    an image to a canvas. Fields that are `Spatial` follow them there. Its encoded arrays are
    (H,W,...), of which H and W are that plane's."""

    def place(self, shape: tuple[int, ...]) -> Warp:
        """What `encode` does to the plane of a value of the shape (H,W,...)."""
        ...


class Port(NamedTuple):
    """One port of a network: how it wants its values, the `entry` of a batch that holds them, and
    the `fields` of an example that it is bound to."""

    name: str
    input: Input
    entry: str
    fields: tuple[str, ...]


Ports: TypeAlias = tuple[Port, ...]
Inputs: TypeAlias = "Input | Mapping[str, Input]"
"""Of a backbone: its one input, or several by port."""


def ports_of(inputs: Inputs) -> Ports:
    """The ports of a backbone, each bound to the entry and the field of the name of its kind, or,
    of several, of its own name."""
    if isinstance(inputs, Mapping):
        return tuple(Port(name, one, name, (name,)) for name, one in inputs.items())
    return (Port(inputs.kind, inputs, inputs.kind, (inputs.kind,)),)
