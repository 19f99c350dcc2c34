"""The files of a model on the Hugging Face hub, or in a folder that is laid out like one.

huggingface_hub downloads and keeps the cache; what is in the cache is used without asking the
network. Without a connection it would try again for half a minute before it said so, so that one
short request comes first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from tlx.errors import WeightsError, did_you_mean, listed

TIMEOUT = 5.0
"""Seconds to wait for the hub to answer, where HF_HUB_ETAG_TIMEOUT says nothing."""


class Repo(Protocol):
    """Where files lie."""

    @property
    def origin(self) -> str:
        """What messages call it."""
        ...

    def find(self, name: str) -> Path | None:
        """The file of this name on this machine; None where the repository has none."""
        ...

    def names(self) -> tuple[str, ...]:
        """What files there are, as far as that can be told; for messages."""
        ...

    def at(self, file: Path, name: str) -> Repo:
        """The repository as it was when `file`, found under `name`, was taken from it."""
        ...


@final
@dataclass(frozen=True)
class Folder:
    """A folder with the files of one model."""

    path: Path

    @property
    def origin(self) -> str:
        """The folder."""
        return str(self.path)

    def find(self, name: str) -> Path | None:
        """The file itself."""
        file = self.path / name
        return file if file.is_file() else None

    def names(self) -> tuple[str, ...]:
        """The files in the folder."""
        return tuple(sorted(p.name for p in self.path.iterdir() if p.is_file()))

    def at(self, file: Path, name: str) -> Folder:
        """Itself: a folder has one state."""
        return self


@final
@dataclass(frozen=True)
class Remote:
    """A repository `owner/name` on the hub at a branch, a tag or a commit."""

    repo: str
    revision: str

    @property
    def origin(self) -> str:
        """As it is written in a run file."""
        return f"hf:{self.repo}" + ("" if self.revision == "main" else f"@{self.revision}")

    def find(self, name: str) -> Path | None:
        """The file in the cache, downloaded before if need be; a branch that is in the cache
        stays as it was then. Raises WeightsError where the repository, the revision or the
        connection is missing."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(self.repo, name, revision=self.revision)
        except (HFValidationError, ValueError) as error:
            raise WeightsError(
                f"{self.repo!r} is no name of a model on the hub (owner/name), and no folder."
            ) from error
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None
        return self._download(name)

    def names(self) -> tuple[str, ...]:
        """All files; none where the hub does not answer."""
        from huggingface_hub import HfApi

        try:
            return tuple(HfApi().list_repo_files(self.repo, revision=self.revision))
        except Exception:  # it only serves a hint; the network fails in many ways
            return ()

    def at(self, file: Path, name: str) -> Remote:
        """The commit that `file` belongs to, which is the name of its folder in the cache."""
        return Remote(self.repo, file.parents[name.count("/")].name)

    def _download(self, name: str) -> Path | None:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        page = f"{constants.ENDPOINT}/{self.repo}"
        try:
            self._ask(name)
            return Path(hf_hub_download(self.repo, name, revision=self.revision))
        except RevisionNotFoundError as error:
            raise WeightsError(
                f"{page} has no revision {self.revision!r}. Name a branch, a tag or a commit of it."
            ) from error
        except GatedRepoError as error:
            raise WeightsError(
                f"{page} is open only to those its owner admits. Ask for access on that page, then "
                f"log in here with `hf auth login`."
            ) from error
        except RepositoryNotFoundError as error:
            raise WeightsError(
                f"There is no model {page}, or it is private. Correct the name, or log in with "
                f"`hf auth login`."
            ) from error
        except HFValidationError as error:
            raise WeightsError(
                f"{self.repo!r} is no name of a model on the hub (owner/name), and no folder."
            ) from error
        except HfHubHTTPError as error:
            if isinstance(error, EntryNotFoundError):
                return None
            raise WeightsError(
                f"{page} answered: {_first_line(error)}. Try again later."
            ) from error
        except WeightsError:
            raise
        except Exception as error:  # the transport below raises classes of its own
            raise WeightsError(
                f"Fetching {name} from {page} failed: {_first_line(error)}. Try again."
            ) from error

    def _ask(self, name: str) -> None:
        """One short request, so that a missing connection is noticed at once."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        given = "HF_HUB_ETAG_TIMEOUT" in os.environ
        try:
            get_hf_file_metadata(
                hf_hub_url(self.repo, name, revision=self.revision),
                timeout=constants.HF_HUB_ETAG_TIMEOUT if given else TIMEOUT,
            )
        except HfHubHTTPError:
            pass  # it answers; what it says is heard when the file is asked for
        except Exception as error:  # the transport below raises classes of its own
            raise WeightsError(
                f"{self.origin} is not in the cache {constants.HF_HUB_CACHE} (no {name}), and "
                f"{constants.ENDPOINT} cannot be reached ({_first_line(error)}). Connect once, or "
                f"name a folder with its files: hf:./folder."
            ) from error


def open_repo(reference: str, revision: str) -> Repo:
    """The folder that `reference` is, or the repository on the hub that it names (`owner/name`,
    or `owner/name@revision` where `revision` is 'main')."""
    path = Path(reference).expanduser()
    if path.is_dir():
        if revision != "main":
            raise WeightsError(f"{path} is a folder, which has no revision {revision!r}.")
        return Folder(path)
    if reference.startswith((".", "/", "~")):
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise WeightsError(f"There is no folder {path}.{did_you_mean(path.name, near)}")
    repo, _, pinned = reference.partition("@")
    if pinned and revision not in ("main", pinned):
        raise WeightsError(
            f"{reference!r} names the revision {pinned!r}, and `revision` says {revision!r}. Give "
            f"one of them."
        )
    return Remote(repo, pinned or revision)


def missing(repo: Repo, wanted: str) -> WeightsError:
    """The error that a repository lacks what is needed, with what it has."""
    names = repo.names()
    near = did_you_mean(wanted, names)
    return WeightsError(f"{repo.origin} has no {wanted}.{near} It has: {listed(names[:20])}.")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
