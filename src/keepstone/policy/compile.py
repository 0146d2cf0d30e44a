"""The policy as Cedar text and a Cedar schema, validated before anything is decided with it.

Few policies over data: one permit for each role, one forbid for each guard.
Cedar skips a policy whose condition errors, so a forbid that reads a missing attribute forbids
nothing. Hence three rules here: every attribute is declared optional, so that the validator
refuses a condition that reads one without `has`; every guard is `forbid ... unless`, so that a
missing attribute forbids; and the engine reads any error as a denial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cedarpy import PolicySet, Schema, validate_policies

from keepstone.errors import InputError
from keepstone.policy.document import ACTIONS, MODEL_ACTIONS, SYSTEM_ACTIONS, Policy

ADMIT = "model.admit"


def _listed(actions: Iterable[str]) -> str:
    return ", ".join(f'"{action}"' for action in sorted(actions))


SCHEMA_TEXT = f"""\
entity Principal;
entity Gate;
entity Model;
entity System;

type Asked = {{
  method?: String,
  roles?: Set<String>,
}};
type Facts = {{
  satisfied?: Set<String>,
  revoked?: Bool,
  flagged?: Bool,
  origin?: Bool,
}};

action {_listed(MODEL_ACTIONS)}
  appliesTo {{ principal: [Principal], resource: [Model], context: Asked }};
action {_listed(SYSTEM_ACTIONS)}
  appliesTo {{ principal: [Principal], resource: [System], context: Asked }};
action "{ADMIT}"
  appliesTo {{ principal: [Gate], resource: [Model], context: Facts }};
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Parsed, validated policies. `text` is what they were parsed from, for people."""

    text: str
    policies: PolicySet
    schema: Schema


def compile_policy(policy: Policy) -> Compiled:
    """Turn the policy into Cedar. Raises InputError `policy.does_not_validate`."""
    return validated(cedar_text(policy))


def validated(text: str) -> Compiled:
    """Parse and validate Cedar text against the schema; what does not validate is refused.

    Raises InputError `policy.does_not_validate`.
    """
    schema = Schema.from_str(SCHEMA_TEXT)
    try:
        policies = PolicySet.from_str(text)
    except ValueError as error:
        raise _refused(str(error)) from error
    result = validate_policies(text, schema)
    if not result.validation_passed or result.errors:
        raise _refused("; ".join(str(error) for error in result.errors))
    return Compiled(text, policies, schema)


def _refused(why: str) -> InputError:
    return InputError(
        "policy.does_not_validate",
        f"The compiled policy does not validate: {why[:400]}.",
        "Report this with the policy file: no file should compile to it.",
    )


def cedar_text(policy: Policy) -> str:
    """The policy in Cedar, one statement after another. Names in it are checked names only."""
    return "\n".join([*_permits(policy), *_request_guards(policy), *_gate_rules(policy)])


def _permits(policy: Policy) -> Iterable[str]:
    """`context.roles` are those that the principal holds on the very resource of the request."""
    for role, grants in sorted(policy.roles.items()):
        if grants & ACTIONS:
            actions = ", ".join(f'Action::"{action}"' for action in sorted(grants & ACTIONS))
            yield f"""\
@id("role.{role}")
permit (principal is Principal, action in [{actions}], resource)
when {{ context has roles && context.roles.contains("{role}") }};"""


def _request_guards(policy: Policy) -> Iterable[str]:
    methods = ", ".join(f'"{method}"' for method in sorted(policy.methods))
    condition = f"context has method && [{methods}].contains(context.method)"
    if not policy.methods:
        condition = "false"
    yield f"""\
@id("guard.method")
forbid (principal is Principal, action, resource)
unless {{ {condition} }};"""


def _gate_rules(policy: Policy) -> Iterable[str]:
    yield f"""\
@id("gate.admit")
permit (principal is Gate, action == Action::"{ADMIT}", resource is Model);"""
    yield _gate_guard("guard.revoked", "context has revoked && !context.revoked")
    yield _gate_guard("guard.flagged", "context has flagged && !context.flagged")
    if policy.admission.origin_must_be_proven:
        yield _gate_guard("guard.origin", "context has origin && context.origin")
    for requirement in policy.requirements:
        yield _gate_guard(
            f"require.{requirement.id}",
            f'context has satisfied && context.satisfied.contains("{requirement.id}")',
        )


def _gate_guard(rule: str, condition: str) -> str:
    return f"""\
@id("{rule}")
forbid (principal is Gate, action == Action::"{ADMIT}", resource is Model)
unless {{ {condition} }};"""
