"""Bring a version of an MLflow model before the gate, and move aliases with evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepstone.errors import InputError
from keepstone.integrations.mlflow.fetching import fetch
from keepstone.integrations.mlflow.judging import REGISTRY
from keepstone.integrations.mlflow.names import location_of, subject_name
from keepstone.workspace.operations import perform
from keepstone.workspace.site import Site


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registered model, by its number."""

    model: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `models:/NAME/VERSION`. Raises InputError `mlflow.bad_uri`, `mlflow.bad_name`."""
        head, _, number = text.rpartition("/")
        model = head.removeprefix("models:/")
        # An alias may mean another version by the time that it is used.
        if model == head or not number.isdecimal() or not number.isascii() or int(number) < 1:
            raise InputError(
                "mlflow.bad_uri",
                f"{text[:200]!r} is not models:/NAME/VERSION with a version's number.",
                "An alias will not do: say which version you mean.",
            )
        subject_name(model)
        return cls(model, int(number))


@dataclass(frozen=True, slots=True)
class Brought:
    """Which version to admit, from which MLflow, with what its publisher signed."""

    version: Version
    tracking_uri: str | None = None
    signature: Path | None = None
    statements: Path | None = None


def admit_version(site: Site, brought: Brought) -> dict[str, Any]:
    """Fetch a version once, have the workspace judge it, and return what it said.

    Raises what MLflow's client raises, what `fetch` raises, and `register_version`.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    version = brought.version
    uri = _client(brought.tracking_uri).get_model_version_download_uri(
        version.model, str(version.number)
    )
    plain = uri.removeprefix("keepstone+")
    repository = get_artifact_repository(plain, tracking_uri=brought.tracking_uri)
    fetched = fetch(repository, "")
    try:
        return perform(
            site,
            "registered.version",
            _about(version)
            | {
                "path": str(fetched.folder),
                "name": subject_name(version.model),
                "location": location_of(uri),
                "signature": _absolute(brought.signature),
                "statements": _absolute(brought.statements),
            },
        )
    finally:
        fetched.discard()


def promote_version(
    site: Site, version: Version, alias: str, tracking_uri: str | None = None
) -> dict[str, Any]:
    """State that `alias` points at the version, if the gate says yes, and move it in MLflow.

    The statement comes first: an alias that only MLflow moved is refused by who loads by it.
    """
    said = perform(site, "registered.alias", _about(version) | {"alias": alias})
    _client(tracking_uri).set_registered_model_alias(version.model, alias, str(version.number))
    return said


def _about(version: Version) -> dict[str, Any]:
    return {"registry": REGISTRY, "model": version.model, "version": version.number}


def _client(tracking_uri: str | None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
