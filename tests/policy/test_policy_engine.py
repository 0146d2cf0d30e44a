"""Cedar fails open in known ways; each of them is a no here."""

from __future__ import annotations

from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.policy.compile import SCHEMA_TEXT, Compiled, cedar_text, compile_policy, validated
from keepstone.policy.document import ACTIONS, MODEL_ACTIONS, SYSTEM_ACTIONS
from keepstone.policy.engine import Authorizer, Decision, Engine
from keepstone.policy.parse import parse_policy, profile_text

LOCAL = parse_policy(profile_text("local"))
ENGINE = Engine(LOCAL)
FACTS = {"satisfied": ["scan"], "revoked": False, "flagged": False, "origin": False}


def principal(*grants: Grant, method: str = "api_key", name: str = "user:alice") -> Principal:
    return Principal(name, PrincipalKind.API_KEY, frozenset(grants), method, "k")


CALLER = principal(Grant("caller", ("digits",)))


def test_a_grant_allows_its_action_on_its_model_and_nothing_else() -> None:
    decision = ENGINE.decide(CALLER, "model.predict", "digits")
    assert decision == Decision(True, ("role.caller",))
    assert decision.code == "allowed"
    for action in MODEL_ACTIONS:
        for model in ("digits", "letters"):
            allowed = ENGINE.decide(CALLER, action, model).allowed
            assert allowed is ((action, model) == ("model.predict", "digits"))
    for action in SYSTEM_ACTIONS:
        assert ENGINE.decide(CALLER, action).code == "policy.denied"


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_each_role_does_exactly_what_the_file_grants(action: str) -> None:
    model = "digits" if action in MODEL_ACTIONS else None
    for role, granted in LOCAL.roles.items():
        for models, reaches in ((("*",), True), (("letters",), False)):
            decision = ENGINE.decide(principal(Grant(role, models)), action, model)
            assert decision.allowed is (action in granted and reaches)
            assert not decision.errors


def test_a_grant_on_one_model_does_not_reach_the_system() -> None:
    assert not ENGINE.decide(principal(Grant("metrics", ("digits",))), "metrics.read").allowed
    assert ENGINE.decide(principal(Grant("metrics")), "metrics.read").allowed


def test_a_role_the_policy_does_not_define_grants_nothing() -> None:
    assert not ENGINE.decide(principal(Grant("root")), "model.predict", "digits").allowed


def test_the_rights_of_signers_are_no_actions() -> None:
    assert ENGINE.decide(principal(Grant("approver")), "state.approval", "digits").errors


def test_the_gates_own_action_cannot_be_asked_for() -> None:
    assert ENGINE.decide(principal(Grant("caller")), "model.admit", "digits").code == "policy.error"


@pytest.mark.parametrize("action", ["", "predict", "MODEL.PREDICT", "model.predict\n", "\ud800"])
def test_an_unknown_action_is_an_error_and_so_a_no(action: str) -> None:
    decision = ENGINE.decide(principal(Grant("caller")), action, "digits")
    assert not decision.allowed
    assert decision.errors


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_an_action_on_the_wrong_kind_of_resource_is_a_no(action: str) -> None:
    everything = principal(*(Grant(role) for role in LOCAL.roles))
    model = None if action in MODEL_ACTIONS else "digits"
    assert not ENGINE.decide(everything, action, model).allowed


@pytest.mark.parametrize(
    "model", ["*", "", "Digits", 'a"b', "a\nb", "\ud800", "../digits", "x" * 65]
)
def test_what_is_no_name_is_no_model(model: str) -> None:
    assert not ENGINE.decide(CALLER, "model.predict", model).allowed
    assert not ENGINE.decide(principal(Grant("caller")), "model.predict", model).allowed


def test_a_method_the_policy_does_not_take_is_refused_with_its_guard() -> None:
    decision = ENGINE.decide(principal(Grant("caller"), method="header"), "model.predict", "digits")
    assert decision == Decision(False, ("guard.method",))


def test_no_method_means_nobody() -> None:
    data = profile_text("local").replace(b'["api_key", "token", "local"]', b"[]")
    engine = Engine(parse_policy(data))
    for method in ("api_key", "token", "local", ""):
        asked = principal(Grant("caller"), method=method)
        assert engine.decide(asked, "model.predict", "digits").rules == ("guard.method",)


def test_bindings_reach_who_brings_no_grants() -> None:
    data = profile_text("local") + (
        b'\n[[bindings]]\nprincipal = "user:alice"\nrole = "caller"\nmodels = ["digits"]\n'
    )
    engine = Engine(parse_policy(data))
    assert engine.decide(principal(), "model.predict", "digits").allowed
    assert not engine.decide(principal(), "model.predict", "letters").allowed
    assert not engine.decide(principal(name="user:bob"), "model.predict", "digits").allowed
    assert not engine.decide(principal(Grant("reader")), "model.predict", "digits").allowed


# Failing open.


def test_cedar_itself_fails_open_on_a_missing_attribute() -> None:
    """The trap this room is built around; if Cedar changes, the page on policy must too."""
    text = (
        "permit(principal, action, resource);"
        "forbid(principal, action, resource) unless { resource.signed };"
    )
    answer = cedarpy.is_authorized(
        {
            "principal": 'Principal::"a"',
            "action": 'Action::"model.predict"',
            "resource": 'Model::"m"',
            "context": {},
        },
        text,
        [{"uid": {"type": "Model", "id": "m"}, "attrs": {}, "parents": []}],
    )
    assert answer.allowed
    assert answer.diagnostics.errors


def test_an_error_beside_an_allow_is_a_no() -> None:
    text = cedar_text(LOCAL) + (
        '\n@id("broken") forbid (principal is Principal, action, resource)'
        "\nwhen { context has roles && 9223372036854775807 + 1 > 0 };"
    )
    engine = Engine(LOCAL, validated(text))
    decision = engine.decide(CALLER, "model.predict", "digits")
    assert not decision.allowed
    assert decision.code == "policy.error"
    assert "overflow" in decision.errors[0]


@pytest.mark.parametrize(
    "guard",
    [
        'forbid (principal, action, resource) unless { context.method == "x" };',
        "forbid (principal is Gate, action, resource) unless { !context.revoked };",
        "forbid (principal, action, resource) unless { resource.signed };",
        "forbid (principal, action, resource) when { context has revoked && context.revokd };",
        "permit (principal is Root, action, resource);",
        'permit (principal, action == Action::"model.delete", resource);',
        "permit (principal, action, resource) when { context has method && context.method > 3 };",
        "permit (",
    ],
)
def test_a_policy_that_does_not_validate_is_refused(guard: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(cedar_text(LOCAL) + "\n" + guard)
    assert caught.value.code == "policy.does_not_validate"


def test_without_a_schema_such_a_guard_would_let_everything_through() -> None:
    """What `validated` refuses, run anyway: the engine still says no, for it sees the error."""
    text = (
        cedar_text(LOCAL)
        + '\n@id("x") forbid (principal, action, resource) unless { resource.signed };'
    )
    unchecked = Compiled(
        text, cedarpy.PolicySet.from_str(text), cedarpy.Schema.from_str(SCHEMA_TEXT)
    )
    decision = Engine(LOCAL, unchecked).decide(CALLER, "model.predict", "digits")
    assert not decision.allowed
    assert decision.errors


@pytest.mark.parametrize("left_out", sorted(FACTS))
def test_a_fact_that_is_missing_denies(left_out: str) -> None:
    production = Engine(parse_policy(profile_text("production")))
    facts = {**FACTS, "satisfied": ["scan", "signature", "training", "approval"], "origin": True}
    assert production.decide_admission("digits", facts).allowed
    facts.pop(left_out)
    decision = production.decide_admission("digits", facts)
    assert not decision.allowed
    assert decision.rules
    assert not decision.errors


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"satisfied": []}, "require.scan"),
        ({"satisfied": ["signature", "scan "]}, "require.scan"),
        ({"revoked": True}, "guard.revoked"),
        ({"flagged": True}, "guard.flagged"),
    ],
)
def test_each_guard_of_the_gate_denies_alone(changes: dict[str, Any], rule: str) -> None:
    assert ENGINE.decide_admission("digits", FACTS).rules == ("gate.admit",)
    assert ENGINE.decide_admission("digits", {**FACTS, **changes}) == Decision(False, (rule,))


@pytest.mark.parametrize(
    "changes", [{"revoked": "false"}, {"satisfied": "scan"}, {"flagged": None}, {"more": 1}]
)
def test_facts_of_another_type_are_an_error_and_so_a_no(changes: dict[str, Any]) -> None:
    decision = ENGINE.decide_admission("digits", {**FACTS, **changes})
    assert not decision.allowed
    assert decision.errors


NAMES = st.sampled_from(["digits", "letters", "faces"])
GRANTS = st.builds(
    Grant,
    st.sampled_from([*sorted(LOCAL.roles), "unknown"]),
    st.one_of(st.just(("*",)), st.lists(NAMES, min_size=1, max_size=2).map(tuple)),
)


@given(
    st.frozensets(GRANTS, max_size=4),
    st.sampled_from(sorted(ACTIONS)),
    NAMES,
    st.sampled_from(["api_key", "token", "local", "none"]),
)
def test_cedar_agrees_with_a_plain_reading_of_the_file(
    grants: frozenset[Grant], action: str, name: str, method: str
) -> None:
    model = name if action in MODEL_ACTIONS else None
    expected = method in LOCAL.methods and any(
        action in LOCAL.roles.get(grant.role, frozenset()) and grant.covers(model)
        for grant in grants
    )
    decision = ENGINE.decide(principal(*grants, method=method), action, model)
    assert decision.allowed is expected
    assert not decision.errors


# Remembering.


class Counting(Engine):
    asked = 0

    def decide_by(
        self, principal: Principal, action: str, model: str | None, roles: frozenset[str]
    ) -> Decision:
        self.asked += 1
        return super().decide_by(principal, action, model, roles)


def test_a_decision_is_remembered_and_errors_are_not() -> None:
    engine = Counting(LOCAL)
    authorizer = Authorizer(engine)
    for _ in range(3):
        assert authorizer.decide(CALLER, "model.predict", "digits").allowed
        assert not authorizer.decide(CALLER, "model.read", "digits").allowed
    assert engine.asked == 2
    for _ in range(3):
        assert authorizer.decide(CALLER, "nonsense", "digits").errors
    assert engine.asked == 5


def test_everything_a_decision_depends_on_is_in_its_key() -> None:
    data = profile_text("local") + (
        b'\n[[bindings]]\nprincipal = "user:alice"\nrole = "caller"\nmodels = ["digits"]\n'
    )
    authorizer = Authorizer(Engine(parse_policy(data)))
    assert authorizer.decide(principal(), "model.predict", "digits").allowed
    for other in (
        principal(name="user:bob"),
        principal(method="header"),
        principal(Grant("reader")),
    ):
        assert not authorizer.decide(other, "model.predict", "digits").allowed
    assert not authorizer.decide(principal(), "model.read", "digits").allowed
    assert not authorizer.decide(principal(), "model.predict", "letters").allowed


def test_another_policy_takes_effect_at_once() -> None:
    authorizer = Authorizer(Engine(LOCAL))
    assert authorizer.decide(CALLER, "model.predict", "digits").allowed
    data = profile_text("local").replace(b'grants = ["model.predict"]', b"grants = []")
    stricter = Engine(parse_policy(data))
    authorizer.replace(stricter)
    assert authorizer.engine is stricter
    assert authorizer.epoch == 1
    assert not authorizer.decide(CALLER, "model.predict", "digits").allowed


def test_a_decision_of_the_old_policy_cannot_enter_the_new_memory() -> None:
    class Slow(Engine):
        def decide_by(
            self, principal: Principal, action: str, model: str | None, roles: frozenset[str]
        ) -> Decision:
            authorizer.replace(Engine(parse_policy(strict)))
            return super().decide_by(principal, action, model, roles)

    strict = profile_text("local").replace(b'grants = ["model.predict"]', b"grants = []")
    authorizer = Authorizer(Slow(LOCAL))
    assert authorizer.decide(CALLER, "model.predict", "digits").allowed
    assert not authorizer.decide(CALLER, "model.predict", "digits").allowed


def test_memory_is_bounded() -> None:
    authorizer = Authorizer(Engine(LOCAL), size=4)
    for number in range(20):
        authorizer.decide(CALLER, "model.predict", f"model-{number}")
        assert len(authorizer._state[1]) <= 4


def test_require_raises_by_what_went_wrong() -> None:
    authorizer = Authorizer(Engine(LOCAL))
    assert authorizer.require(CALLER, "model.predict", "digits").allowed
    with pytest.raises(DeniedError) as denied:
        authorizer.require(CALLER, "model.predict", "letters")
    assert denied.value.code == "policy.denied"
    with pytest.raises(OperationalError) as failed:
        authorizer.require(CALLER, "nonsense", "digits")
    assert failed.value.code == "policy.error"


def test_policies_are_few() -> None:
    """One permit for each role, whoever and however many are bound."""
    many = profile_text("local") + b"".join(
        b'\n[[bindings]]\nprincipal = "user:u%d"\nrole = "caller"\nmodels = ["m%d"]\n' % (n, n)
        for n in range(200)
    )
    assert len(compile_policy(parse_policy(many)).policies) == len(ENGINE.compiled.policies) < 20
