"""A run's own look at its examples, before the first step and once for the same data.

A picture that cannot be read would end the run when its turn comes, hours in; one that is in two
splits would never be noticed. What was found is kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json

from tlx.assemble import Experiment
from tlx.data.data_check import Finding, check
from tlx.data.shown import noun_of
from tlx.errors import DataError
from tlx.files.cache_folder import cache_folder

FORM = 4
"""Of what is kept; another one is looked at anew."""


def first_look(experiment: Experiment) -> tuple[str, ...]:
    """Sentences about what makes a result wrong or may do so. Looks at `[data] check` examples at
    most. Raises DataError for examples that cannot be read, naming them."""
    limit, domain = experiment.config.data.check, experiment.domain
    if not limit:
        return ()
    parts = experiment.splits.parts
    if domain is not None:
        parts["domain"] = domain.train
    labelled = experiment.model.head is not None  # else nobody reads the labels
    about = (FORM, experiment.info.fingerprint, limit, experiment.config.domain, labelled)
    digest = hashlib.sha256(repr(about).encode())
    for part in parts.values():
        digest.update(part.indices.tobytes())
    kept = cache_folder() / "looked_at" / f"{digest.hexdigest()}.json"
    try:
        said = [str(text) for text in json.loads(kept.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):
        found = check(parts, experiment.info, limit=limit, labelled=labelled)
        broken = [finding for finding in found.findings if finding.level == "broken"]
        if broken:
            raise DataError(_refusal(broken)) from None
        said = [finding.said() for finding in found.findings]
        if said and found.looked < found.pictures:
            said.append(
                f"{found.looked:,} of {found.pictures:,} {noun_of(experiment.info)}s were looked "
                f"at; `tlx data check` looks at all of them."
            )
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(said), encoding="utf-8")
        except OSError:
            pass  # it is looked at again the next time
    return tuple(said)


def _refusal(broken: list[Finding]) -> str:
    each = "\n".join("\n  ".join((finding.text, *finding.files)) for finding in broken)
    return f'{each}\nMend or remove them, or leave them out: [data] unreadable = "skip".'
