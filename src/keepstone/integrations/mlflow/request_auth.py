"""Send a Keepstone credential with every request of MLflow's client.

For who sets MLFLOW_TRACKING_AUTH=keepstone. KEEPSTONE_TOKEN_FILE is read for each request, so
that a short-lived token can be renewed beside a running job; else KEEPSTONE_API_KEY is sent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
from requests import PreparedRequest
from requests.auth import AuthBase

from keepstone.errors import InputError
from keepstone.identity.signing import read_secret_file

NAME = "keepstone"


class KeepstoneAuth(AuthBase):  # type: ignore[misc]
    """Adds `Authorization: Bearer ...`. Never printed, and never sent on to another host."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {credential()}"
        return request


class KeepstoneRequestAuth(RequestAuthProvider):  # type: ignore[misc]
    """MLflow's plugin point for credentials."""

    def get_name(self) -> str:
        return NAME

    def get_auth(self) -> Any:
        return KeepstoneAuth()


def credential() -> str:
    """The API key or token to send. Raises InputError `mlflow.no_credential`, `key.*`."""
    if file := os.environ.get("KEEPSTONE_TOKEN_FILE"):
        text = read_secret_file(Path(file)).decode("ascii", "replace").strip()
    else:
        text = os.environ.get("KEEPSTONE_API_KEY", "").strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InputError(
            "mlflow.no_credential",
            "There is no usable API key or token to send to MLflow.",
            "Set KEEPSTONE_TOKEN_FILE or KEEPSTONE_API_KEY.",
        )
    return text
