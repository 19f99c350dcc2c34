"""What a run is made of, as frozen dataclasses; pydantic reads their types.

In a run file a plugin's options stand beside its `name`; here they are `options`. Relative
paths mean the folder that tlx was started in, wherever the run file lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeAlias, final

from pydantic import Field

from tlx.types import Precision  # pydantic reads it

_Count = Annotated[int, Field(strict=True, ge=1)]
_Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
WeightSchedule: TypeAlias = Literal["constant", "warmup", "linear", "cosine", "dann"]
OnNan: TypeAlias = Literal["stop", "skip", "reduce_lr"]
_Share = Annotated[float, Field(strict=True, gt=0, lt=1)] | _Count
"""Of a split: a fraction, or a number of examples."""


@final
@dataclass(frozen=True)
class Part:
    """A plugin by reference (see `tlx.registry.load`) and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data. `shots`: labelled training examples a class; `limit`: the same where a class may
    have fewer; `val`, `test`: what is cut from the training split where the source has none, a
    fraction or a count. `sampling`: in what proportion training draws the classes, theirs or
    equally often. `check`: pictures that are looked at before the first step, 0 for none;
    `unreadable`: whether a picture that cannot be read stops the run or is left out."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shots: _Count | None = None
    limit: _Count | None = None
    sampling: Literal["natural", "balanced"] = "natural"
    val: _Share | None = None
    test: _Share | None = None
    split_seed: _Seed = 0
    check: Annotated[int, Field(strict=True, ge=0)] = 20_000
    unreadable: Literal["stop", "skip"] = "stop"


@final
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """How the network is bound to the data: `inputs` names for a port the field, or the fields,
    that it is given, where that is not clear."""

    inputs: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Where the parameters come from. `head`: a fresh one or the file's; `allow`: globs of leaf
    paths that the file may lack, and of its tensors that may have no leaf; `prefix`: what stands
    before the network's names, where the file holds it more than once; `architecture`: what the
    file may call the network though the backbone goes by other names; `input`: what it does not say
    of its preprocessing."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    head: Literal["new", "keep"] = "new"
    allow: tuple[str, ...] = ()
    prefix: str = ""
    architecture: str = ""
    input: Mapping[str, Any] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    """One term `weight * D`. `source`: 'source' (the model as loaded) or a key of `[sources]`;
    `label`: what it is logged as, its name where None; `schedule`: how the weight moves over the
    run, see `tlx.weight_schedule`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: _NotNegative
    source: str = "source"
    label: str | None = None
    schedule: WeightSchedule = "constant"

    @property
    def key(self) -> str:
        """What it is logged as."""
        return self.label or self.name


@final
@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """A metric that is computed of a whole split. `label`: what it is told as, its name where
    None."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def key(self) -> str:
        """What it is told as."""
        return self.label or self.name.rpartition(":")[2].rpartition("/")[2]


@final
@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """What decides which step is best, in place of the head. `metric`: one that the head reports or
    that a `[[metric]]` is told as; `better`: its direction, where its name does not say."""

    metric: str | None = None
    better: Literal["max", "min"] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How parameters move. `warmup`: share of a phase in which the rate rises from 0; `clip`:
    greatest norm of a gradient. `on_nan`: what happens where a loss or a gradient is not finite:
    the run stops; or the update is left out, for 20 in a row; or that, and the learning rate is
    halved for the rest of the run."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: _Positive = 1e-3
    weight_decay: _NotNegative = 0.0
    momentum: _Fraction = 0.9
    nesterov: Annotated[bool, Field(strict=True)] = False
    schedule: Literal["constant", "cosine", "linear", "one_cycle"] = "cosine"
    warmup: _Fraction = 0.0
    clip: _Positive | None = None
    on_nan: OnNan = "stop"


@final
@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Another source model: the folder of a finished `run`, or a `backbone` with `weights`, whose
    head is kept where the file has one. `trust_code`: run files of Python that the folder names."""

    run: str | None = None
    backbone: Part | None = None
    weights: WeightsConfig | None = None
    trust_code: Annotated[bool, Field(strict=True)] = False


@final
@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """How features that are learnt without labels are watched at every evaluation. `examples`: so
    many of the training and of the validation split, 0 for not at all; `neighbours`: that vote;
    `stop`: end a run that has collapsed."""

    examples: Annotated[int, Field(strict=True, ge=0)] = 1000
    neighbours: _Count = 20
    stop: Annotated[bool, Field(strict=True)] = True


@final
@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Several devices: a grid of `data` × `fsdp`. A batch is cut over all of them, parameters and
    optimizer state over `fsdp`. `hosts`: they belong to several processes, which JAX is to find;
    `heartbeat_seconds`: of silence after which one of these is taken for dead."""

    data: _Count = 1
    fsdp: _Count = 1
    hosts: Annotated[bool, Field(strict=True)] = False
    heartbeat_seconds: _Count = 100


@final
@dataclass(frozen=True)
class Variant:
    """The same run with parts of its table changed, as `tlx.run_file.overrides.merge` does; a stage
    is one, too."""

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run. Exactly one of `epochs` and `steps` is set (10 epochs where neither is).

    `domain` is a second stream of pictures whose labels are not used, but for its test split.
    `eval_every`: epochs between two evaluations, 1 where None; `patience`: evaluations without
    a better one before training stops; `log_every`: steps; `precision`: in what the backbone
    computes while it is trained, see `tlx.devices.precision`; `cache_gb`: memory for what a frozen
    prefix of the backbone says of every picture, 0 to compute it anew each time;
    `cache_disk_gb`: the same in the user's cache folder, for what needs more memory than that or
    serves a second run, 0 for nothing there; `cache_views`: versions of each picture that are
    drawn once where pictures are augmented, and then taken in turn, one an epoch. `weights`: None
    for random ones, while a table that leaves them out gets those packaged with the backbone (see
    `tlx.run_file.packaged_weights`). Each `stage` starts from the backbone of the one before; the
    variants are those of the last."""

    name: str
    seed: _Seed = 0
    out: str | None = None
    epochs: _Positive | None = None
    steps: _Count | None = None
    batch_size: _Count = 32
    eval_every: _Positive | None = None
    patience: _Count | None = None
    checkpoint_seconds: _NotNegative = 60.0
    log_every: _Count = 10
    precision: Precision = "float32"
    cache_gb: _NotNegative = 2.0
    cache_disk_gb: _NotNegative = 10.0
    cache_views: _Count | None = None
    data: DataConfig
    domain: DataConfig | None = None
    backbone: Part
    model: ModelConfig = field(default_factory=ModelConfig)
    weights: WeightsConfig | None = None
    head: Part | None = field(default_factory=lambda: Part("softmax"))
    strategy: Part = field(default_factory=lambda: Part("finetune"))
    divergence: tuple[DivergenceConfig, ...] = ()
    augmentation: tuple[Part, ...] = ()
    metric: tuple[MetricConfig, ...] = ()
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    step: Part = field(default_factory=lambda: Part("jit"))
    sink: tuple[Part, ...] = field(default_factory=lambda: (Part("html"),))
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    health: HealthConfig = field(default_factory=HealthConfig)
    mesh: MeshConfig | None = None
    stage: tuple[Variant, ...] = ()
    variant: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None:
            object.__setattr__(self, "epochs", 10.0)


OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    key: tuple(f.name for f in fields(kind) if f.name != "options")
    for key, kind in {
        "data": DataConfig,
        "domain": DataConfig,
        "weights": WeightsConfig,
        "divergence": DivergenceConfig,
        "metric": MetricConfig,
        **dict.fromkeys(("backbone", "head", "strategy", "step", "augmentation", "sink"), Part),
    }.items()
}
"""Keys of each table that are tlx's own; whatever stands beside them is the plugin's."""
