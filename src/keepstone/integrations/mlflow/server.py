"""`mlflow server --app-name keepstone`: MLflow's own application, behind Keepstone's guard.

KEEPSTONE_MLFLOW_APP says what is inside: `plain` (the default), where Keepstone's API keys and
tokens are the credentials, or `basic-auth`, MLflow's application with its users and permissions,
where a Keepstone credential is taken as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from keepstone.errors import InputError
from keepstone.integrations.mlflow.access import GuardedApp
from keepstone.integrations.mlflow.guard import Guard
from keepstone.integrations.mlflow.judging import judge_from
from keepstone.integrations.mlflow.recording import LedgerRecorder
from keepstone.integrations.mlflow.registry import GuardedRegistry
from keepstone.workspace.site import Site

PLAIN, BASIC_AUTH = "plain", "basic-auth"


def create_app() -> GuardedApp:
    """Make the application; what is wrong with its settings ends the server before it serves.

    Raises InputError `mlflow.not_configured`, `mlflow.bad_app`, `mlflow.needs_uvicorn`, and what
    reading the workspace or the bundle raises.
    """
    inside = os.environ.get("KEEPSTONE_MLFLOW_APP", PLAIN)
    guard = _guard(inside)
    # Read once now: a server that could decide nothing does not start.
    guard.judge.registrations()
    prefix = os.environ.get("_MLFLOW_STATIC_PREFIX", "").rstrip("/")
    app = _inner(inside)
    _guard_store(guard)
    return GuardedApp(app, guard, inner_authenticates=inside == BASIC_AUTH, prefix=prefix)


def _guard(inside: str) -> Guard:
    if inside not in (PLAIN, BASIC_AUTH):
        raise InputError(
            "mlflow.bad_app",
            f"KEEPSTONE_MLFLOW_APP is {inside[:40]!r}.",
            f"Set it to {PLAIN} or {BASIC_AUTH}.",
        )
    if os.environ.get("_MLFLOW_SGI_NAME") != "uvicorn":
        raise InputError(
            "mlflow.needs_uvicorn",
            "This application is served by uvicorn alone: the others leave half of MLflow out.",
            "Start `mlflow server` without --gunicorn-opts and --waitress-opts.",
        )
    judge = judge_from(os.environ)
    root = os.environ.get("KEEPSTONE_WORKSPACE")
    if root and not os.environ.get("KEEPSTONE_TRUST_BUNDLE"):
        site = Site.at(Path(root), os.environ)
        return Guard(judge, site, LedgerRecorder(site))
    if inside == PLAIN:
        raise InputError(
            "mlflow.not_configured",
            "A trust bundle holds no API keys, so this server would know nobody.",
            f"Set KEEPSTONE_WORKSPACE, or KEEPSTONE_MLFLOW_APP={BASIC_AUTH}.",
        )
    return Guard(judge)


def _inner(inside: str) -> Any:
    if inside == BASIC_AUTH:
        from mlflow.server import auth

        return auth.create_app()
    from mlflow.server.fastapi_app import app

    return app


def _guard_store(guard: Guard) -> None:
    """Put the guard before the one store that all of MLflow's routes use."""
    from mlflow.server import handlers

    inner = handlers._get_model_registry_store()
    if not isinstance(inner, GuardedRegistry):
        handlers._model_registry_store = GuardedRegistry(inner, guard)
