"""Asking Cedar: an answer is yes only where Cedar allowed it and nothing went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cedarpy import Decision as CedarDecision
from cedarpy import Entities, is_authorized

from keepstone.core.subject import check_name
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.identity.principal import Principal, VersionFacts
from keepstone.policy.compile import ADMIT, Compiled, compile_policy
from keepstone.policy.document import MODEL_ACTIONS, SYSTEM_ACTIONS, Policy

_SYSTEM: Final = {"type": "System", "id": "keepstone"}
_GATE: Final = {"type": "Gate", "id": "keepstone"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy said. `rules` are the ids that decided; none means that nothing permits.

    With `errors` the answer is no, whatever Cedar made of it: they belong into the record.
    """

    allowed: bool
    rules: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """`allowed`, `policy.denied` or `policy.error`."""
        if self.errors:
            return "policy.error"
        return "allowed" if self.allowed else "policy.denied"


class Engine:
    """One policy, parsed and validated once. Immutable; any thread may ask it.

    `compiled` stands in for what `policy` compiles to; only tests give it.
    """

    def __init__(self, policy: Policy, compiled: Compiled | None = None) -> None:
        self.policy = policy
        self.compiled = compile_policy(policy) if compiled is None else compiled
        self._entities = Entities.from_json_str("[]", self.compiled.schema)

    def decide(
        self,
        principal: Principal,
        action: str,
        model: str | None = None,
        facts: VersionFacts | None = None,
    ) -> Decision:
        """Whether `principal` may do `action`: on `model`, or on the system where it is None.

        `facts` are those of one of its versions; without them no narrowed grant counts. An
        action that is unknown, or on the wrong kind of resource, is denied.
        """
        return self.decide_by(principal, action, model, self.roles_on(principal, model, facts))

    def roles_on(
        self, principal: Principal, model: str | None, facts: VersionFacts | None = None
    ) -> frozenset[str]:
        """The roles that `principal` holds on `model`, or on the version that `facts` tell of."""
        grants = self.policy.grants_of(principal)
        return frozenset(grant.role for grant in grants if grant.covers(model, facts))

    def decide_by(
        self, principal: Principal, action: str, model: str | None, roles: frozenset[str]
    ) -> Decision:
        """As `decide`, for the roles that `roles_on` said."""
        if action not in (SYSTEM_ACTIONS if model is None else MODEL_ACTIONS):
            return Decision(False, errors=(f"no action {action[:64]!r} on this kind of resource",))
        # No model has any other name, so no grant can reach one; `*` least of all.
        if model is not None and not is_name(model):
            return Decision(False)
        return self._ask(
            {"type": "Principal", "id": principal.id},
            action,
            _SYSTEM if model is None else {"type": "Model", "id": model},
            {"method": principal.method, "roles": sorted(roles)},
        )

    def decide_admission(self, model: str, facts: Mapping[str, Any]) -> Decision:
        """Whether the gate may admit `model`, given the facts found in its evidence."""
        return self._ask(_GATE, ADMIT, {"type": "Model", "id": model}, dict(facts))

    def _ask(
        self,
        principal: Mapping[str, str],
        action: str,
        resource: Mapping[str, str],
        context: dict[str, Any],
    ) -> Decision:
        request = {
            "principal": principal,
            "action": {"type": "Action", "id": action},
            "resource": resource,
            # As text: cedarpy would write it with the standard library, at several times the cost.
            "context": msgspec.json.encode(context).decode("utf-8"),
        }
        answer = is_authorized(
            request, self.compiled.policies, self._entities, self.compiled.schema
        )
        diagnostics = answer.diagnostics
        named = diagnostics.id_annotations_by_reason
        rules = tuple(sorted(named.get(reason, reason) for reason in diagnostics.reasons))
        errors = tuple(diagnostics.errors)
        # Cedar skips a policy that errors, so an Allow beside an error may be a skipped forbid.
        allowed = answer.decision is CedarDecision.Allow and not errors
        return Decision(allowed, rules, errors)


def is_name(text: str) -> bool:
    """Whether `text` could be a model's name."""
    try:
        check_name(text)
    except InputError:
        return False
    return True


class Authorizer:
    """Decisions of one engine, remembered: at most `size` of them, dropped with the policy.

    A decision depends on the principal's id, method and grants, the action and the model, and on
    nothing else, so that is the key; for a version, the roles that its facts leave are, in place
    of the grants. `replace` takes another policy into force at once.
    """

    def __init__(self, engine: Engine, size: int = 8192) -> None:
        self._size = max(1, size)
        self._epoch = 0
        # The engine and what it said live and die together.
        self._state: tuple[Engine, dict[tuple[Any, ...], Decision]] = (engine, {})

    @property
    def engine(self) -> Engine:
        return self._state[0]

    @property
    def epoch(self) -> int:
        """How many policies were in force before this one."""
        return self._epoch

    def replace(self, engine: Engine) -> None:
        """Decide by `engine` from now on; nothing remembered survives."""
        self._epoch += 1
        self._state = (engine, {})

    def decide(
        self,
        principal: Principal,
        action: str,
        model: str | None = None,
        facts: VersionFacts | None = None,
    ) -> Decision:
        """As `Engine.decide`, from memory where the same was asked before. Any thread may ask."""
        engine, remembered = self._state
        if facts is None:
            key: tuple[Any, ...] = (principal.id, principal.method, principal.grants, action, model)
            known = remembered.get(key)
            if known is not None:
                return known
            roles = engine.roles_on(principal, model)
        else:
            # Thousands of versions differ in their facts, and few in the roles held on them.
            roles = engine.roles_on(principal, model, facts)
            key = (principal.id, principal.method, roles, action, model, True)
            known = remembered.get(key)
            if known is not None:
                return known
        decision = engine.decide_by(principal, action, model, roles)
        # An error may pass; a decision does not.
        if not decision.errors:
            if len(remembered) >= self._size:
                remembered.clear()
            remembered[key] = decision
        return decision

    def require(
        self,
        principal: Principal,
        action: str,
        model: str | None = None,
        facts: VersionFacts | None = None,
    ) -> Decision:
        """Return the decision if it is yes.

        Raises DeniedError `policy.denied`, OperationalError `policy.error`.
        """
        decision = self.decide(principal, action, model, facts)
        if decision.allowed:
            return decision
        if decision.errors:
            raise OperationalError(
                "policy.error",
                "The policy could not be evaluated, so the answer is no.",
                "Run `keepstone policy check`.",
            )
        raise DeniedError(
            "policy.denied",
            "The policy does not allow this.",
            "Run `keepstone policy explain` for the reason.",
        )
