"""What the guarded registry answers to who may push to a model and see some versions of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion, RegisteredModel, RegisteredModelAlias

from keepstone.identity.principal import Principal, PrincipalKind
from keepstone.integrations.mlflow.callers import CALLER, Caller
from keepstone.integrations.mlflow.guard import READ
from keepstone.integrations.mlflow.registry import GuardedRegistry


class Grants:
    """May do everything with the whole model but read: that, with version 1 alone."""

    def __init__(self, action: str = "") -> None:
        self._action = action

    def reach(self, _: Principal, action: str) -> Grants:
        return Grants(action)

    def covers(self, _: str, version: int | None = None) -> bool:
        return self._action != READ or version == 1

    def record(self, *_: Any) -> None:
        pass


class Store:
    def _model(self, name: str, *_: Any) -> RegisteredModel:
        versions = [ModelVersion(name, str(number), 1) for number in (1, 2)]
        aliases = [RegisteredModelAlias(f"at{number}", str(number)) for number in (1, 2)]
        return RegisteredModel(name, 1, latest_versions=versions, aliases=aliases)

    update_registered_model = _model

    def rename_registered_model(self, _: str, new_name: str) -> RegisteredModel:
        return self._model(new_name)


@pytest.fixture
def registry() -> Iterator[Any]:
    who = Principal("user:ana", PrincipalKind.LOCAL, frozenset(), "local", "")
    token = CALLER.set(Caller("user:ana", who))
    yield GuardedRegistry(Store(), Grants())  # type: ignore[arg-type]
    CALLER.reset(token)


def test_a_changed_model_shows_only_the_versions_that_may_be_seen(registry: Any) -> None:
    for changed in (
        registry.update_registered_model("fraud", "words"),
        registry.rename_registered_model("fraud", "fraud2"),
    ):
        assert [one.version for one in changed.latest_versions] == ["1"]
        assert changed.aliases == {"at1": "1"}
