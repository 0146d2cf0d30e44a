"""Why the policy said what it said, for people and for programs, and what would change it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keepstone.core.ports import rfc3339
from keepstone.identity.principal import Principal
from keepstone.policy.document import ACTIONS, SYSTEM_ACTIONS, Policy
from keepstone.policy.engine import Engine
from keepstone.policy.gate import Reason, Verdict

SCHEMA = "keepstone.policy-explain/v1"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A question, its answer, and one reason for each rule that had a say."""

    question: str
    allowed: bool
    rules: tuple[str, ...]
    reasons: tuple[Reason, ...]
    errors: tuple[str, ...]
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON of the schema `keepstone.policy-explain/v1`."""
        return {
            "schema": SCHEMA,
            "question": self.question,
            "allowed": self.allowed,
            "rules": list(self.rules),
            "reasons": [_reason_dict(reason) for reason in self.reasons],
            "errors": list(self.errors),
            **self.facts,
        }

    def to_text(self) -> str:
        """Plain lines: the answer, each rule with yes or no, and what would change a no."""
        lines = [f"{self.question} {'yes' if self.allowed else 'no'} ({', '.join(self.rules)})"]
        for reason in self.reasons:
            lines.append(f"  {'yes' if reason.satisfied else 'no ':3} {reason.rule}")
            lines.append(f"      {reason.detail}.")
            if reason.remedy:
                lines.append(f"      To change that: {reason.remedy}")
        lines += [f"  error: {error}" for error in self.errors]
        return "\n".join(lines)


def explain_model(verdict: Verdict) -> Explanation:
    """Why a model is admitted or not."""
    subject = verdict.subject
    return Explanation(
        f"May {subject.name} ({subject.digest.short}) serve at {verdict.endpoint}?",
        verdict.allowed,
        (verdict.rule,),
        verdict.reasons,
        verdict.errors,
        {
            "model": subject.name,
            "digest": str(subject.digest),
            "endpoint": verdict.endpoint,
            "profile": verdict.profile,
            "policy": str(verdict.policy),
            "evidence": [str(digest) for digest in verdict.evidence],
            "not_proven": list(verdict.not_proven),
            "decided": rfc3339(verdict.now),
            "expires": rfc3339(verdict.expires) if verdict.allowed else None,
        },
    )


def explain_principal(
    engine: Engine, principal: Principal, action: str, model: str | None = None
) -> Explanation:
    """Why `principal` may or may not do `action`, and which grant would change a no."""
    decision = engine.decide(principal, action, model)
    policy = engine.policy
    what = f"on {model}" if model is not None else "on the system"
    reasons = [_method_reason(policy, principal), _grant_reason(policy, principal, action, model)]
    return Explanation(
        f"May {principal.id} do {action} {what}?",
        decision.allowed,
        decision.rules or (decision.code,),
        tuple(reasons),
        decision.errors,
        {
            "principal": principal.id,
            "action": action,
            "model": model,
            "profile": policy.profile,
            "policy": str(policy.digest),
        },
    )


def warnings(policy: Policy) -> tuple[str, ...]:
    """What a valid policy cannot mean as it stands: requirements nobody can fulfil, and so on.

    One sentence each, for `keepstone policy check`.
    """
    return (*_unfulfillable(policy), *_unused(policy))


def _unfulfillable(policy: Policy) -> Iterable[str]:
    held: dict[str, set[str]] = {role: set() for role in policy.roles}
    # A certified signer signs models and states nothing.
    stating: dict[str, set[str]] = {role: set() for role in policy.roles}
    for signer in policy.signers:
        for role in signer.roles:
            held[role].add(signer.name)
            if signer.key is not None:
                stating[role].add(signer.name)
    for by_role in (held, stating):
        by_role.setdefault("observer", set()).add("observer")
    for asked in policy.requirements:
        have = len((held if asked.evidence == "signature" else stating)[asked.role])
        if have < asked.count:
            yield (
                f"require.{asked.id} needs {asked.count} with the role {asked.role} and the policy "
                f"names {have}: nothing can be admitted until you add signers."
            )
    if policy.admission.origin_must_be_proven and not held.get("publisher"):
        yield "The origin must be proven and no signer is a publisher: nothing can be admitted."
    if not any("state.revocation" in policy.roles[role] for role, who in stating.items() if who):
        yield "No signer may revoke: add one with a role that has state.revocation."


def _unused(policy: Policy) -> Iterable[str]:
    asked = {requirement.role for requirement in policy.requirements}
    for signer in policy.signers:
        if not any(policy.roles[role] or role in asked for role in signer.roles):
            yield f"The signer {signer.name} holds no role that grants anything."
    if not policy.methods:
        yield "No method of authentication is allowed: every request is refused."


def _method_reason(policy: Policy, principal: Principal) -> Reason:
    allowed = sorted(policy.methods)
    if principal.method in policy.methods:
        return Reason("guard.method", True, f"It authenticated by {principal.method}")
    return Reason(
        "guard.method",
        False,
        f"It authenticated by {principal.method}, and the policy takes {', '.join(allowed)}",
        remedy="add it to `methods` under [access] in the policy file",
    )


def _grant_reason(policy: Policy, principal: Principal, action: str, model: str | None) -> Reason:
    if action not in ACTIONS or (action in SYSTEM_ACTIONS) != (model is None):
        known = ", ".join(sorted(ACTIONS))
        return Reason("grants", False, f"{action[:64]!r} is not an action here; known are {known}")
    roles = sorted(role for role, grants in policy.roles.items() if action in grants)
    grants = sorted(policy.grants_of(principal))
    source = "its credential" if principal.grants else "the policy's bindings"
    for grant in grants:
        if grant.role in roles and grant.covers(model):
            return Reason("grants", True, f"The role {grant}, from {source}")
    held = "; ".join(map(str, grants)) or "nothing"
    target = "every model" if model is None else model
    if not roles:
        return Reason("grants", False, "No role in the policy grants it")
    return Reason(
        "grants",
        False,
        f"It needs {' or '.join(roles)} on {target}, and has {held} from {source}",
        remedy=f"keepstone keys create {principal.id} --role {roles[0]}"
        + ("" if model is None else f" --model {model}"),
    )


def _reason_dict(reason: Reason) -> dict[str, Any]:
    return {
        "rule": reason.rule,
        "satisfied": reason.satisfied,
        "detail": reason.detail,
        "persons": list(reason.persons),
        "statements": [str(digest) for digest in reason.statements],
        "entries": list(reason.entries),
        "remedy": reason.remedy,
    }
