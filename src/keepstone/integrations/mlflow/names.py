"""MLflow's names and ours: every model of MLflow has one name here, and no two share one.

MLflow takes almost any text as a model's name. Ours reach URLs, file names and policy text, so
most of MLflow's cannot be used as they are. A name that is valid here stands for itself; any
other becomes readable letters and 160 bits of its SHA-256. A valid name that looks like one of
those is hashed too, so that nobody can call a model what another one's name becomes.
"""

from __future__ import annotations

import re
from hashlib import sha256

from keepstone.core.subject import check_name
from keepstone.errors import InputError
from keepstone.evidence.registered import MAX_MODEL_NAME

_HASHED = re.compile(r".*-x[0-9a-f]{40}\Z")
_READABLE = 20


def subject_name(model: str) -> str:
    """The name under which Keepstone knows the MLflow model `model`.

    Raises InputError `mlflow.bad_name` for what no statement can carry: empty, too long, or with
    a control character or a slash.
    """
    if not model or len(model) > MAX_MODEL_NAME or "/" in model or not model.isprintable():
        raise InputError(
            "mlflow.bad_name",
            f"{model[:80]!r} cannot be guarded: a model's name is one line of at most"
            f" {MAX_MODEL_NAME} characters without a slash.",
            "Rename the model in MLflow.",
        )
    if _is_valid(model) and not _HASHED.match(model):
        return model
    readable = re.sub(r"[^a-z0-9]+", "-", model.lower())[:_READABLE].strip("-") or "model"
    return check_name(f"{readable}-x{sha256(model.encode()).hexdigest()[:40]}")


def _is_valid(name: str) -> bool:
    try:
        check_name(name)
    except InputError:
        return False
    return True


def location_of(uri: str) -> str:
    """One spelling for the place of a model's files, whichever plugin names it."""
    plain = uri.removeprefix("keepstone+")
    if plain.startswith("file:"):
        plain = "/" + plain.removeprefix("file:").lstrip("/")
    if plain.startswith("mlflow-artifacts:"):
        # With or without the server's own address: it is the server that is asked.
        rest = re.sub(r"\A//[^/]*", "", plain.removeprefix("mlflow-artifacts:"))
        plain = f"mlflow-artifacts:/{rest.lstrip('/')}"
    return plain.rstrip("/") or "/"
