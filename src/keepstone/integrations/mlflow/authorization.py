"""Keepstone credentials in MLflow's basic-auth application.

In MLflow's auth configuration:

    authorization_function = keepstone.integrations.mlflow.authorization:authenticate_request

A request whose Keepstone credential was verified goes on as the MLflow user of the principal's
id, with what that user may in MLflow; any other is asked for a name and password, as always.
"""

from __future__ import annotations

from typing import Any

from keepstone.integrations.mlflow.callers import CALLER


def authenticate_request() -> Any:
    """What MLflow's `authorization_function` answers: an authorization, or a refusal."""
    from mlflow.server.auth import authenticate_request_basic_auth
    from werkzeug.datastructures import Authorization

    caller = CALLER.get()
    # Set by the application in front, which verified it; never by anything in the request.
    if caller is not None and caller.principal is not None:
        return Authorization("basic", {"username": caller.principal.id, "password": ""})
    return authenticate_request_basic_auth()
