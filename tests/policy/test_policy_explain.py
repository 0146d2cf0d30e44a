from __future__ import annotations

import json
from typing import Any

from keepstone.core.finding import Outcome
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.policy.engine import Decision, Engine
from keepstone.policy.explain import explain_model, explain_principal, warnings
from keepstone.policy.parse import add_signer, parse_policy, profile_text

World = Any
LOCAL = parse_policy(profile_text("local"))


def principal(*grants: Grant, method: str = "api_key") -> Principal:
    return Principal("user:alice", PrincipalKind.API_KEY, frozenset(grants), method, "k")


def test_a_yes_names_who_and_what(production: World) -> None:
    verdict = production.complete().judge()
    explained = explain_model(verdict)
    value = json.loads(json.dumps(explained.to_dict()))
    assert value["schema"] == "keepstone.policy-explain/v1"
    assert value["allowed"] is True
    assert value["rules"] == ["gate.admit"]
    assert value["profile"] == "production"
    assert value["not_proven"] == ["robustness"]
    assert value["expires"].endswith("Z")
    approval = next(one for one in value["reasons"] if one["rule"] == "require.approval")
    assert approval["persons"] == ["bob"]
    assert approval["entries"] == [4]
    text = explained.to_text()
    assert "yes (gate.admit)" in text
    assert "To change that" not in text


def test_a_no_says_what_would_change_it(production: World) -> None:
    production.scan(Outcome.FLAGGED)
    explained = explain_model(production.judge())
    assert explained.to_dict()["expires"] is None
    text = explained.to_text()
    for piece in (
        "onnx.external_data",
        "keepstone approve digits --as KEY",
        "keepstone sign MODEL",
        "--role publisher",
    ):
        assert piece in text


def test_a_revoked_model_is_told_who_could_lift_it(local: World) -> None:
    local.scan()
    local.revoke()
    text = explain_model(local.judge()).to_text()
    assert "keepstone reinstate digits --as KEY" in text
    assert "another signer" in text


def test_errors_are_shown(local: World) -> None:
    text = explain_principal(Engine(LOCAL), principal(), "nonsense", "digits").to_text()
    assert "error: " in text
    assert "is not an action here" in text


def test_a_principal_is_told_the_role_that_is_missing() -> None:
    explained = explain_principal(
        Engine(LOCAL), principal(Grant("caller", ("digits",))), "model.predict", "letters"
    )
    assert not explained.allowed
    assert explained.rules == ("policy.denied",)
    (reason,) = [one for one in explained.reasons if not one.satisfied]
    assert "caller or red-team on letters" in reason.detail
    assert reason.remedy == "keepstone keys create user:alice --role caller --model letters"


def test_the_remedy_works() -> None:
    engine = Engine(LOCAL)
    for action, model in (("model.read", "digits"), ("metrics.read", None), ("ledger.read", None)):
        explained = explain_principal(engine, principal(), action, model)
        words = explained.reasons[-1].remedy.split()
        role = words[words.index("--role") + 1]
        models = (words[words.index("--model") + 1],) if "--model" in words else ("*",)
        assert engine.decide(principal(Grant(role, models)), action, model).allowed


def test_explanation_and_decision_never_disagree() -> None:
    engine = Engine(LOCAL)
    for grants in ((), (Grant("caller"),), (Grant("metrics", ("digits",)),), (Grant("auditor"),)):
        for method in ("api_key", "header"):
            asked = principal(*grants, method=method)
            for action, model in (("model.predict", "digits"), ("metrics.read", None)):
                explained = explain_principal(engine, asked, action, model)
                assert explained.allowed is all(one.satisfied for one in explained.reasons)
                assert explained.allowed is engine.decide(asked, action, model).allowed


def test_where_grants_come_from_is_said() -> None:
    data = profile_text("local") + (
        b'\n[[bindings]]\nprincipal = "user:alice"\nrole = "caller"\nmodels = ["*"]\n'
    )
    engine = Engine(parse_policy(data))
    bound = explain_principal(engine, principal(), "model.predict", "digits").to_text()
    assert "on every model, from the policy's bindings" in bound
    own = explain_principal(
        engine, principal(Grant("caller", ("digits",))), "model.predict", "digits"
    )
    assert "The role caller on digits, from its credential" in own.to_text()


def test_an_action_nobody_may_do_is_said_so() -> None:
    data = profile_text("local").replace(b'["model.predict"]', b"[]")
    data = data.replace(b'"model.predict", "state.', b'"state.')
    explained = explain_principal(
        Engine(parse_policy(data)), principal(Grant("caller")), "model.predict", "digits"
    )
    assert "No role in the policy grants it" in explained.to_text()


def test_warnings_name_what_cannot_be_fulfilled(production: World) -> None:
    fresh = warnings(parse_policy(profile_text("production")))
    assert len(fresh) == 5
    assert any("approver" in one for one in fresh)
    assert any("publisher" in one for one in fresh)
    assert warnings(parse_policy(production.policy)) == ()


def test_warnings_see_signers_and_methods_without_effect(production: World) -> None:
    key = production.keys["bob2"].verifying
    data = add_signer(production.policy, "gina", ("caller",), key)
    data = data.replace(b'["model.predict"]', b"[]").replace(
        b'["api_key", "token", "local"]', b"[]"
    )
    found = warnings(parse_policy(data))
    assert len(found) == 2
    assert "gina" in found[0]
    assert "every request is refused" in found[1]


def test_a_decision_has_one_code() -> None:
    assert Decision(True).code == "allowed"
    assert Decision(False).code == "policy.denied"
    assert Decision(True, errors=("x",)).code == "policy.error"
