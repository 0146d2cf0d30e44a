"""Grants on versions against a plain model of the rules: every principal, version and action."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.identity.principal import (
    Grant,
    Principal,
    PrincipalKind,
    VersionFacts,
    grants_to_list,
    parse_grants,
)
from keepstone.policy.document import MODEL_ACTIONS, SYSTEM_ACTIONS
from keepstone.policy.engine import Authorizer, Engine
from keepstone.policy.parse import parse_policy, profile_text

LOCAL = parse_policy(profile_text("local"))
PRODUCTION = parse_policy(profile_text("production"))
MODELS = ("fraud", "churn")
TEAMS, STAGES = ("risk", "growth"), ("staging", "production")

conditions = st.lists(
    st.sampled_from(
        [
            ("team", ("risk",)),
            ("stage", ("production",)),
            ("data_class", ("public", "internal")),
        ]
    ),
    unique_by=lambda pair: pair[0],
    max_size=2,
).map(tuple)
grants = st.builds(
    Grant,
    st.sampled_from(sorted(LOCAL.roles)),
    st.sampled_from([("*",), ("fraud",), ("churn",), MODELS]),
    st.sampled_from([(), (1,), (2, 3)]),
    conditions,
)
facts = st.builds(
    VersionFacts,
    st.integers(1, 4),
    st.frozensets(
        st.sampled_from(
            [
                *(("team", team) for team in TEAMS),
                *(("stage", stage) for stage in STAGES),
                ("data_class", "public"),
                ("data_class", "secret"),
            ]
        )
    ),
)


def reaches(grant: Grant, model: str, version: VersionFacts | None) -> bool:
    """The rules in the plainest words there are."""
    if grant.models != ("*",) and model not in grant.models:
        return False
    if not grant.versions and not grant.where:
        return True
    if version is None:
        return False
    if grant.versions and version.number not in grant.versions:
        return False
    for name, allowed in grant.where:
        has = [value for key, value in version.attributes if key == name]
        if not any(value in allowed for value in has):
            return False
    return True


@given(
    st.frozensets(grants, max_size=4),
    st.sampled_from(MODELS),
    st.sampled_from(sorted(MODEL_ACTIONS)),
    st.none() | facts,
)
@example(frozenset({Grant("puller", where=(("team", ("risk",)),))}), "fraud", "model.pull", None)
@example(
    frozenset({Grant("puller", where=(("team", ("risk",)),))}),
    "fraud",
    "model.pull",
    VersionFacts(1),
)
def test_decisions_agree_with_the_plain_rules(
    held: frozenset[Grant], model: str, action: str, version: VersionFacts | None
) -> None:
    who = Principal("user:alice", PrincipalKind.API_KEY, held, "api_key", "k")
    expected = any(
        action in LOCAL.roles[grant.role] and reaches(grant, model, version) for grant in held
    )
    assert Engine(LOCAL).decide(who, action, model, version).allowed is expected


@given(st.frozensets(grants, max_size=4), st.lists(facts, max_size=4))
def test_memory_never_mixes_two_versions_up(
    held: frozenset[Grant], versions: list[VersionFacts]
) -> None:
    who = Principal("user:alice", PrincipalKind.API_KEY, held, "api_key", "k")
    remembering, plain = Authorizer(Engine(LOCAL)), Engine(LOCAL)
    for version in [None, *versions, None, *reversed(versions)]:
        for action in ("model.read", "model.pull"):
            said = remembering.decide(who, action, "fraud", version)
            assert said == plain.decide(who, action, "fraud", version)


@given(st.frozensets(grants, min_size=1, max_size=3))
def test_a_narrowed_grant_never_reaches_the_system(held: frozenset[Grant]) -> None:
    narrowed = frozenset(grant for grant in held if grant.is_narrowed)
    who = Principal("user:alice", PrincipalKind.API_KEY, narrowed, "api_key", "k")
    # Without a grant of its own a credential falls back to the bindings, of which there are none.
    for action in SYSTEM_ACTIONS:
        assert not Engine(LOCAL).decide(who, action).allowed


@given(st.frozensets(grants, max_size=4))
def test_narrowed_grants_survive_the_file(held: frozenset[Grant]) -> None:
    assert parse_grants(grants_to_list(held)) == held


@pytest.mark.parametrize(
    "change",
    [
        {"versions": []},
        {"where": {}},
        {"where": {"team": []}},
        {"where": {"team": "risk"}},
        {"where": {"Team": ["risk"]}},
        {"where": {"team": ["risk*"]}},
        {"where": ["team"]},
        {"versions": ["1"]},
        {"versions": [0]},
        {"versions": [True]},
        {"versions": [1.0]},
        {"unless": {"team": ["risk"]}},
        {"where": {f"a{number}": ["x"] for number in range(17)}},
    ],
)
def test_a_condition_that_cannot_be_is_refused_and_never_dropped(change: dict[str, object]) -> None:
    plain: dict[str, object] = {"role": "puller", "models": ["*"]}
    assert parse_grants([plain])
    with pytest.raises(InputError) as caught:
        parse_grants([plain | change])
    assert caught.value.code in ("grant.invalid", "name.invalid")


def local(name: str = "local:root") -> Principal:
    return Principal(name, PrincipalKind.LOCAL, frozenset(), "local", "none")


def test_whoever_opens_the_folder_holds_the_local_roles_and_nobody_else_does() -> None:
    version = VersionFacts(1)
    assert Engine(LOCAL).decide(local(), "model.promote", "fraud", version).allowed
    assert Engine(PRODUCTION).decide(local(), "model.read", "fraud", version).allowed
    assert not Engine(PRODUCTION).decide(local(), "model.promote", "fraud", version).allowed
    # Asked about by name only, or authenticated by a key: it is not who opened the folder.
    assert not Engine(LOCAL).decide(local("user:root"), "model.read", "fraud", version).allowed
    by_key = Principal("local:root", PrincipalKind.API_KEY, frozenset(), "api_key", "k")
    assert not Engine(LOCAL).decide(by_key, "model.read", "fraud", version).allowed


BINDING = b"""
[[bindings]]
principal = "user:bob"
role = "puller"
models = ["*"]
versions = [2]
where = { team = ["risk"] }
"""


def test_a_binding_can_be_narrowed() -> None:
    engine = Engine(parse_policy(profile_text("local") + BINDING))
    bob = Principal("user:bob", PrincipalKind.TOKEN, frozenset(), "token", "k")
    risk = frozenset({("team", "risk")})
    assert engine.decide(bob, "model.pull", "fraud", VersionFacts(2, risk)).allowed
    assert not engine.decide(bob, "model.pull", "fraud", VersionFacts(1, risk)).allowed
    assert not engine.decide(bob, "model.pull", "fraud", VersionFacts(2)).allowed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"versions = [2]", b"versions = []"),
        (b"versions = [2]", b"versions = [0]"),
        (b"versions = [2]", b'versions = ["2"]'),
        (b'{ team = ["risk"] }', b"{}"),
        (b'{ team = ["risk"] }', b"{ team = [] }"),
        (b'{ team = ["risk"] }', b'{ team = "risk" }'),
        (b'{ team = ["risk"] }', b'{ Team = ["risk"] }'),
        (b"where =", b"when ="),
    ],
)
def test_a_binding_with_a_condition_that_cannot_be_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(InputError, match="policy"):
        parse_policy(profile_text("local") + BINDING.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"max_models = 10000", b"max_models = 0"),
        (b"max_bytes = 1099511627776", b"max_bytes = true"),
        (b'proposal_lifetime = "7d"', b'proposal_lifetime = "91d"'),
        (b"four_eyes = false", b"four_eyes = 1"),
        (b"staging = {", b"Staging = {"),
        (b"# team = []", b"stage = []"),
        (b"# team = []", b'team = ["a", "a"]'),
        (b'"keeper"]\n\n# Attributes', b'"nobody"]\n\n# Attributes'),
        (b"max_versions = 10000\n", b""),
        (b"max_versions = 10000\n", b"max_versions = 10000\nmax_version = 1\n"),
    ],
)
def test_a_registry_section_that_cannot_be_is_refused(old: bytes, new: bytes) -> None:
    text = profile_text("local")
    assert old in text
    with pytest.raises(InputError) as caught:
        parse_policy(text.replace(old, new))
    assert caught.value.code == "policy.invalid"


def test_a_policy_without_the_section_has_no_registry() -> None:
    text = profile_text("local")
    start, end = text.index(b"# ---- The registry"), text.index(b"[tokens]")
    policy = parse_policy(text[:start] + text[end:])
    assert policy.registry is None
    assert not Engine(policy).decide(local(), "model.read", "fraud", VersionFacts(1)).allowed
