"""Stages that start from one another, assembled before any of them is trained.

What is wrong with the last stage is said before hours were spent on the first. A stage that is not
there yet is stood in for by its own beginning: the same leaves with other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tlx import config as configs
from tlx.assemble import Experiment, assemble
from tlx.config import RunConfig
from tlx.errors import ConfigError, TlxError
from tlx.run_folder import folder
from tlx.training.learnt_model import gather_model


def rehearsed(config: RunConfig, out: Path) -> Iterator[tuple[str, Experiment]]:
    """(name, experiment) of every run of a run file that would write to `out`; see `folder.runs`.

    Ends early at a stage that names a folder in `out`, which may not be there yet. Raises what
    `assemble` raises, and ConfigError for a stage that tests on what one before it trains on."""
    earlier: dict[str, Experiment] = {}
    with TemporaryDirectory() as there:
        runs = zip(folder.runs(config, Path(there)), folder.runs(config, out), strict=True)
        for (name, run, into), (_, meant, _) in runs:
            if earlier and f"{out}/" in configs.dumps(run):
                return
            try:
                experiment = assemble(run)
            except TlxError as error:
                if not config.stage:
                    raise
                said = str(error).replace(there, str(out))
                raise type(error)(f"stage {name!r}: {said}") from error
            for before, other in earlier.items():
                _refuse_seen(name, experiment, before, other)
            yield name, experiment._replace(config=meant)
            if name in [stage.name for stage in config.stage[:-1]]:
                earlier[name] = experiment
                gather_model(experiment, experiment.variables)(into / folder.MODEL)


def _refuse_seen(name: str, now: Experiment, before: str, other: Experiment) -> None:
    """A test split that was trained on says nothing; whether labels were used or not."""
    test, train = now.splits.test, other.splits.train
    if now.info.fingerprint != other.info.fingerprint or test.name != train.name:
        return
    seen = len(np.intersect1d(test.indices, train.indices))
    if seen:
        raise ConfigError(
            f"stage {name!r}: {seen} of its {len(test)} test pictures are trained on in stage "
            f"{before!r}, because the two cut the same data differently. Give both the same "
            f"split_seed and test in [data]."
        )
