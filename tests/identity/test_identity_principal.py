from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.identity.principal import (
    Grant,
    Principal,
    PrincipalKind,
    check_principal_id,
    grants_to_list,
    parse_grants,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?", fullmatch=True)
GRANTS = st.builds(
    Grant,
    NAMES,
    st.one_of(st.just(("*",)), st.lists(NAMES, min_size=1, max_size=4).map(tuple)),
)


@pytest.mark.parametrize("text", ["user:alice", "service:checkout-2", "workload:a@b.example"])
def test_an_id_names_its_kind(text: str) -> None:
    assert check_principal_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "User:alice",
        "user:",
        "user: alice",
        'user:a"b',
        "user:a\n",
        "user:" + "a" * 128,
    ],
)
def test_an_id_that_could_be_read_as_something_else_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        check_principal_id(text)
    assert caught.value.code == "principal.invalid"


def test_a_grant_reaches_its_models_only() -> None:
    grant = Grant("predictor", ("digits",))
    assert grant.covers("digits")
    assert not grant.covers("digits2")
    assert not grant.covers("*")
    assert not grant.covers(None)


def test_only_a_grant_on_every_model_reaches_the_system() -> None:
    assert Grant("metrics").covers(None)
    assert Grant("metrics").covers("digits")


def test_models_are_kept_in_one_order() -> None:
    assert Grant("reader", ("b", "a", "b")) == Grant("reader", ("a", "b"))


@pytest.mark.parametrize("models", [(), ("*", "digits"), tuple(f"m{i}" for i in range(257))])
def test_odd_lists_of_models_are_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        Grant("reader", models)


@given(st.frozensets(GRANTS, max_size=5))
def test_grants_survive_the_file(grants: frozenset[Grant]) -> None:
    assert parse_grants(grants_to_list(grants)) == grants


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [None],
        [{"role": "reader"}],
        [{"role": "reader", "models": ["*"], "more": 1}],
        [{"role": 1, "models": ["*"]}],
        [{"role": "reader", "models": "*"}],
        [{"role": "reader", "models": [1]}],
        [{"role": "Reader", "models": ["*"]}],
        [{"role": "reader", "models": ["*"]}] * 65,
    ],
)
def test_unreadable_grants_are_refused(value: object) -> None:
    with pytest.raises(InputError):
        parse_grants(value)


def test_attributes_are_a_copy_and_decide_nothing() -> None:
    attributes = {"jti": "1"}
    principal = Principal("user:a", PrincipalKind.TOKEN, frozenset(), "token", "k", attributes)
    attributes["jti"] = "2"
    assert principal.attributes["jti"] == "1"
    assert principal == Principal("user:a", PrincipalKind.TOKEN, frozenset(), "token", "k")
    with pytest.raises(InputError):
        Principal("alice", PrincipalKind.TOKEN, frozenset(), "token", "k")
