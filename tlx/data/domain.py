"""A second stream of pictures, whose labels are not used in training.

`[domain]` names it; divergences between two domains read its features, and the result tells how
its test split fares.
"""

from __future__ import annotations

from typing import NamedTuple

from tlx.config import DataConfig
from tlx.data import splits
from tlx.data.splits import Subset
from tlx.data.targets import open_source
from tlx.data.unreadable import unreadable
from tlx.errors import ConfigError
from tlx.run_file.run_config import Part
from tlx.types import DataInfo


class Domain(NamedTuple):
    """A second stream: the pictures that are trained with, and those with labels to test on (None
    where the classes are not those of the run's own data)."""

    name: str
    info: DataInfo
    train: Subset
    test: Subset | None


def second(config: DataConfig, own: DataInfo, head: Part | None = None) -> Domain:
    """The stream that `[domain]` names: all its training pictures where it has a test split of
    its own, else those that are left when one is cut; labels are what the run's head takes them
    for."""
    balanced = config.sampling == "balanced"
    for key, asked in (("shots", config.shots), ("limit", config.limit), ("sampling", balanced)):
        if asked:
            raise ConfigError(f"domain.{key}: the labels of a domain are not used; remove {key}.")
    data = open_source(config, head)
    without = unreadable(data) if config.unreadable == "skip" else {}
    parts = splits.cut(
        data, val=config.val, test=config.test, seed=config.split_seed, without=without
    )
    own_test = "test" in data.info.splits
    train = splits.whole(data, "train", without.get("train")) if own_test else parts.train
    test = parts.test if data.info.classes == own.classes else None
    return Domain(config.name, data.info, train, test)
