"""What a path of MLflow's server is about, so that no route is open that nobody thought of.

Paths are judged in the one spelling that both of MLflow's routers read alike; any other is
refused before they see it. A route that is not in the table is closed.
"""

from __future__ import annotations

import re
from enum import StrEnum


class About(StrEnum):
    """What a request touches, which says who decides about it."""

    PUBLIC = "public"  # liveness, and the pages without data
    KNOWN = "known"  # what the server can do: for whoever has a credential
    REGISTRY = "registry"  # registered models: decided one by one, in the store
    TRACKING = "tracking"  # experiments and runs, which name models
    ARTIFACTS = "artifacts"  # files by their path, through the server
    EVERYTHING = "everything"  # files by other roads: only who may pull every model
    CLOSED = "closed"


_API = re.compile(r"/(?:ajax-)?api/[0-9]\.0/")
_REGISTRY = frozenset({"registered-models", "model-versions"})
_TRACKING = frozenset(
    {"experiments", "runs", "metrics", "logged-models", "artifacts", "traces", "datasets"}
)
_FILES = re.compile(r"mlflow-artifacts/(?:artifacts|mpu/[a-z]+|presigned/?[a-z]*)(?:/(.*))?\Z")
_PUBLIC = frozenset({"/health", "/version", "/"})
_ODD = re.compile(r"[\x00-\x1f\x7f\\%;]|//")
_ENCODED = re.compile(rb"%(?:2f|5c|25|2e|00)", re.IGNORECASE)


def is_plain(path: str, raw: bytes) -> bool:
    """Whether every router reads this path alike: nothing doubled, encoded twice, or relative."""
    parts = path.split("/")[1:]
    return (
        path.startswith("/")
        and not _ODD.search(path)
        and not _ENCODED.search(raw)
        and not any(part in (".", "..") for part in parts)
    )


def about(path: str, prefix: str = "") -> tuple[About, str]:
    """What `path` touches, and the rest of it that names a file.

    `prefix` is what MLflow's own option puts before most of its paths.
    """
    if prefix and (path == prefix or path.startswith(prefix + "/")):
        path = path.removeprefix(prefix) or "/"
    if path in _PUBLIC or path.startswith("/static-files/"):
        return About.PUBLIC, ""
    if path in ("/get-artifact", "/model-versions/get-artifact"):
        return About.EVERYTHING, ""
    if path == "/graphql":
        return About.TRACKING, ""
    found = _API.match(path)
    if found is None:
        return About.CLOSED, ""
    rest = path[found.end() :]
    if files := _FILES.match(rest):
        return About.ARTIFACTS, files[1] or ""
    if not rest.startswith("mlflow/"):
        return About.CLOSED, ""
    return _of_mlflow(rest.removeprefix("mlflow/")), ""


def _of_mlflow(rest: str) -> About:
    first = rest.split("/", 1)[0]
    if rest == "server-info":
        return About.KNOWN
    if first in _REGISTRY:
        return About.REGISTRY
    if first == "logged-models" and "/artifacts/" in rest:
        return About.EVERYTHING
    if first == "get-trace-artifact":
        return About.EVERYTHING
    return About.TRACKING if first in _TRACKING else About.CLOSED
