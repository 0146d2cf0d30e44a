"""Print every route of MLflow's server and what the guard takes it for: METHOD PATH ABOUT.

Runs in the environment that holds all of MLflow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from keepstone.integrations.mlflow.routes import about


def native(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """FastAPI's own routes, those of included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from native(inner.routes, prefix + route.include_context.prefix)
        elif getattr(route, "methods", None):
            for method in route.methods:
                yield method, prefix + route.path
        elif type(route).__name__ != "Mount" or route.path:
            # A kind of route that nobody looked at.
            yield type(route).__name__, prefix + getattr(route, "path", "?")


def main() -> None:
    from mlflow.server import app as flask
    from mlflow.server.fastapi_app import app as fastapi

    found = set(native(fastapi.routes))
    for rule in flask.url_map.iter_rules():
        found |= {(method, rule.rule) for method in rule.methods or ()}
    for method, path in sorted(found, key=lambda one: (one[1], one[0])):
        if method in ("HEAD", "OPTIONS"):
            # Wherever there is a GET, or anything.
            continue
        plain = path.translate(str.maketrans("<>:", "{}-"))
        sys.stdout.write(f"{method} {path} {about(plain)[0]}\n")


if __name__ == "__main__":
    main()
