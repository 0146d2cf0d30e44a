"""MLflow artifact repositories that verify what they hand out.

`models:/NAME/VERSION` (and aliases, stages, `latest`) is guarded as it is, where the environment
names a workspace or a trust bundle. `keepstone+SCHEME://...` wraps any other repository: a client
without Keepstone cannot read there at all, and one with it gets models only if they verify.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from keepstone.core.digest import Digest, check_relative_path
from keepstone.errors import DeniedError, InputError
from keepstone.evidence.registrations import Registration
from keepstone.integrations.mlflow.fetching import MLMODEL, Fetched, fetch
from keepstone.integrations.mlflow.judging import (
    LATEST,
    STAGE,
    Asked,
    Judge,
    is_configured,
    judge_from,
    require_location,
    require_meant,
    require_version,
)
from keepstone.integrations.mlflow.names import location_of

PREFIX = "keepstone+"


def models_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """What `models:` means: MLflow's own repository, guarded where there is something to go by."""
    kind = GuardedModels if is_configured(os.environ) else ModelsArtifactRepository
    return kind(artifact_uri, tracking_uri, registry_uri)


class GuardedModels(ModelsArtifactRepository):  # type: ignore[misc]
    """Versions of registered models, verified before anybody gets them."""

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        below: Any = self.repo
        # One judgement: what is asked for here is more than a place.
        self.repo: Any = below.inner if isinstance(below, GuardedArtifacts) else below

    def download_artifacts(
        self,
        artifact_path: str,
        dst_path: str | None = None,
        lineage_header_info: dict[str, Any] | None = None,
    ) -> str:
        """As MLflow's, if the version's files are those that were admitted; else raises.

        All of the version is fetched, whatever part is asked for: only a whole has a digest.
        """
        judge = judge_from(os.environ)
        judged = self._judged_by_place if self.model_name is None else self._judged_by_version
        # Nothing is fetched of what could not be loaded anyway.
        require = judged(judge)
        fetched = _fetched(self.repo, "", dst_path)
        try:
            require(fetched.digest)
            asked = (artifact_path or "").strip("/")
            path = _handed_out(fetched, asked, asked, dst_path)
        except BaseException:
            fetched.discard()
            raise
        if path.is_dir() and (path / MLMODEL).exists() and self.model_name is not None:
            self._add_registered_model_meta_file(str(path))
        return str(path)

    def _judged_by_version(self, judge: Judge) -> Callable[[Digest], object]:
        asked = self._asked()
        require_meant(judge.registrations(), asked)
        return lambda digest: require_version(judge, asked, digest)

    def _judged_by_place(self, judge: Judge) -> Callable[[Digest], object]:
        found = judge.registrations().at(location_of(self.repo.artifact_uri))
        held = _require(found, self.artifact_uri)
        return lambda digest: require_location(judge, held, digest)

    def _asked(self) -> Asked:
        from mlflow.store.artifact.utils.models import _parse_model_uri

        said = _parse_model_uri(self.artifact_uri)
        if said.version is not None:
            by = ""
        elif said.alias is not None:
            by = said.alias
        else:
            by = LATEST if said.stage is None else f"{STAGE}{said.stage.lower()}"
        return Asked(str(self.model_name), int(self.model_version), by)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        shutil.copyfile(self.download_artifacts(remote_file_path), local_path)


class GuardedArtifacts(ArtifactRepository):  # type: ignore[misc]
    """Another repository behind `keepstone+`: writes and listings are its own, reads are judged.

    What lies at a place that was admitted, or is an MLflow model, is handed out only if it
    verifies. Other files (plots, logs) are handed out as they are: no loader of MLflow takes them.
    """

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self.inner = get_artifact_repository(
            artifact_uri.removeprefix(PREFIX), tracking_uri, registry_uri
        )

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        self.inner.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        self.inner.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        listed: list[Any] = self.inner.list_artifacts(path)
        return listed

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        self.inner.delete_artifacts(artifact_path)

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Fetch, judge, and hand out the very files that were judged.

        Raises DeniedError `mlflow.not_registered` for a model that nobody admitted, and what
        `require_location` and `judge_from` raise.
        """
        judge = judge_from(os.environ)
        path = (artifact_path or "").strip("/")
        root, found = self._registered(judge, path)
        fetched = _fetched(self.inner, path if found is None else root, dst_path)
        try:
            if found is not None:
                require_location(judge, found, fetched.digest)
                inside = path.removeprefix(root).strip("/")
            elif fetched.holds_model or self._lies_in_model(path):
                _require(None, f"{self.artifact_uri}/{path}")
            else:
                inside = fetched.file
            return str(_handed_out(fetched, inside, path, dst_path))
        except BaseException:
            fetched.discard()
            raise

    def _registered(self, judge: Judge, path: str) -> tuple[str, Registration | None]:
        """The nearest place at or above `path` that was admitted."""
        held, parts = judge.registrations(), [part for part in path.split("/") if part]
        for count in range(len(parts), -1, -1):
            root = "/".join(parts[:count])
            found = held.at(location_of(f"{self.artifact_uri.rstrip('/')}/{root}"))
            if found is not None:
                return root, found
        return "", None

    def _lies_in_model(self, path: str) -> bool:
        """Whether a folder at or above `path` is an MLflow model."""
        parts = path.split("/")[:-1] if path else []
        folders = ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]
        return any(
            one.path.rsplit("/", 1)[-1] == MLMODEL
            for folder in folders
            for one in self.inner.list_artifacts(folder or None)
        )

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        shutil.copyfile(self.download_artifacts(remote_file_path), local_path)


def _fetched(repository: Any, path: str, dst_path: str | None) -> Fetched:
    """Fetch beside where it will lie, so that handing it out moves and copies nothing."""
    return fetch(repository, path, None if dst_path is None else Path(dst_path).absolute())


def _require(found: Registration | None, place: str) -> Registration:
    if found is None:
        raise DeniedError(
            "mlflow.not_registered",
            f"There is no evidence for the model at {place[:200]}: nobody admitted it.",
            "Register it in MLflow, then: keepstone mlflow admit models:/NAME/VERSION",
        )
    return found


def _handed_out(fetched: Fetched, part: str, path: str, dst_path: str | None) -> Path:
    """Where `part` of the verified files lies for the caller: as MLflow does it, at `path` below
    `dst_path` if that is given. Raises InputError `mlflow.no_such_file`, `path.unsafe`.
    """
    inside = fetched.folder / check_relative_path(part) if part else fetched.folder
    if not inside.exists():
        raise InputError("mlflow.no_such_file", f"The verified files hold no {part[:200]!r}.")
    if dst_path is None:
        return inside
    target = Path(dst_path) / check_relative_path(path) if path else Path(dst_path)
    if inside.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for one in inside.iterdir():
            _replace(one, target / one.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(inside, target)
    fetched.discard()
    return target


def _replace(source: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    source.replace(target)
