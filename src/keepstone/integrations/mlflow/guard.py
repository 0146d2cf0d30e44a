"""One server's guard: who asks, what the policy lets them do, and what evidence says.

Everything is read anew, or found unchanged, for each question; what cannot be read is a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keepstone.errors import DeniedError, InputError
from keepstone.identity.principal import EVERY_MODEL, Principal, VersionFacts
from keepstone.integrations.mlflow.callers import CALLER, Caller
from keepstone.integrations.mlflow.judging import (
    REGISTRY,
    Asked,
    Judge,
    require_registered,
)
from keepstone.integrations.mlflow.names import subject_name
from keepstone.integrations.mlflow.recording import Nowhere, Recorder
from keepstone.policy.engine import Engine
from keepstone.workspace.credentials import CredentialsFollower
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import FollowedView, WorkspaceFollower
from keepstone.workspace.site import Site

READ, PULL, PUSH = "model.read", "model.pull", "model.push"
ALIAS, PROMOTE, DEPRECATE = "model.alias", "model.promote", "model.deprecate"
# A name that nobody can have a grant on alone: what reaches it reaches every model.
_ANY_MODEL = "0.every-model"


@dataclass(slots=True)
class Guard:
    """`site` is None for a server that goes by a trust bundle: MLflow then says who asks."""

    judge: Judge
    site: Site | None = None
    recorder: Recorder = field(default_factory=Nowhere)
    _follower: WorkspaceFollower | None = None
    _credentials: CredentialsFollower | None = None

    def __post_init__(self) -> None:
        if self.site is not None:
            self._follower = WorkspaceFollower(self.site)
            self._credentials = CredentialsFollower(self.site)

    def _view(self) -> FollowedView:
        if self._follower is None:
            raise DeniedError("auth.unknown_key", "This server knows no Keepstone credentials.")
        return self._follower.view()

    def authenticate(self, presented: bytes) -> Principal:
        """Whose credential it is. Raises DeniedError `auth.*`."""
        view = self._view()
        if self._credentials is None:
            raise DeniedError("auth.unknown_key", "This server knows no Keepstone credentials.")
        return self._credentials.authenticate(presented, view.trust.policy, view.now)

    def reach(self, principal: Principal, action: str) -> Reach:
        """What a principal may do `action` on, as of now: asked once, used for many models."""
        return Reach(self._engine(), principal, action)

    def may_any(self, principal: Principal, action: str) -> bool:
        """Whether a grant lets them on some model."""
        engine = self._engine()
        models = {
            _ANY_MODEL if model == EVERY_MODEL else model
            for grant in engine.policy.grants_of(principal)
            for model in grant.models
        }
        return any(engine.decide(principal, action, model).allowed for model in models)

    def may_every(self, principal: Principal, action: str) -> bool:
        """Whether a grant lets them on every model."""
        return self._engine().decide(principal, action, _ANY_MODEL).allowed

    def _engine(self) -> Engine:
        return self._view().engine

    def require_evidence(self, model: str, version: int, by: str) -> None:
        """Return if the version may be promoted, stating where `by` points now where there is a
        workspace. Raises as `require_version` and recording do.
        """
        asked = Asked(model, version, by)
        if self.site is not None:
            caller = CALLER.get()
            said = {"registry": REGISTRY, "model": model, "version": version, "alias": by}
            by_whom = {"principal": "nobody" if caller is None else caller.name}
            perform(self.site, "registered.alias", said | by_whom)
            return
        found = require_registered(self.judge.registrations(), asked)
        self.judge.permit(found.subject)

    def note(self, caller: Caller | None, action: str, said: Mapping[str, Any]) -> None:
        """Record a read that was allowed."""
        self.recorder.read(_call(caller, action, said, "allowed"))

    def record(
        self, caller: Caller | None, action: str, said: Mapping[str, Any], decision: str
    ) -> None:
        """Record a change that is about to happen, or a refusal."""
        self.recorder.change(_call(caller, action, said, decision))


@dataclass(slots=True)
class Reach:
    """Whether a grant covers a model, or one version of it, by MLflow's name."""

    engine: Engine
    principal: Principal
    action: str
    _known: dict[tuple[str, int | None], bool] = field(default_factory=dict)

    def covers(self, model: str, version: int | None = None) -> bool:
        key = (model, version)
        if key not in self._known:
            self._known[key] = self._decide(model, version)
        return self._known[key]

    def _decide(self, model: str, version: int | None) -> bool:
        facts = None if version is None else VersionFacts(version)
        try:
            name = subject_name(model)
        except InputError:
            return False
        return self.engine.decide(self.principal, self.action, name, facts).allowed


def _call(
    caller: Caller | None, action: str, said: Mapping[str, Any], decision: str
) -> dict[str, Any]:
    name = "nobody" if caller is None else caller.name
    return {"registry": REGISTRY, "principal": name, "action": action, "decision": decision, **said}
