"""Who calls, for as long as MLflow works on one request: known to the store, whoever runs it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from keepstone.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent the request. Without a `principal` MLflow itself authenticated them.

    `name` is for the record.
    """

    name: str
    principal: Principal | None = None


# Nobody: MLflow's own work at its start.
CALLER: ContextVar[Caller | None] = ContextVar("keepstone_mlflow_caller", default=None)
