"""The policy file: what it says is in force, and what it cannot say is refused by name."""

from __future__ import annotations

import contextlib
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.identity.principal import Grant, Principal, PrincipalKind
from keepstone.identity.signing import SigningKey
from keepstone.policy.compile import cedar_text, compile_policy
from keepstone.policy.document import (
    METHODS,
    OBSERVER_RIGHTS,
    PRODUCTION_EVIDENCE,
    PROFILES,
    RIGHTS,
)
from keepstone.policy.parse import add_signer, parse_policy, profile_text
from keepstone.policy.trust import Trust

LOCAL, PRODUCTION = profile_text("local"), profile_text("production")
KEY = SigningKey.generate().verifying
DAY = 86_400_000


def changed(old: str, new: str, data: bytes = LOCAL) -> bytes:
    assert data.count(old.encode()) >= 1
    return data.replace(old.encode(), new.encode(), 1)


def refused(data: bytes, code: str = "policy.invalid") -> str:
    with pytest.raises(InputError) as caught:
        parse_policy(data)
    assert caught.value.code == code
    return caught.value.cause


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_reads_and_compiles(name: str) -> None:
    data = profile_text(name)
    policy = parse_policy(data)
    assert policy.profile == name
    assert policy.digest == Digest.of(data)
    assert compile_policy(policy).text == cedar_text(policy)
    assert policy.audit_mode == "strict"


def test_production_asks_for_everything_and_lets_less_through() -> None:
    local, production = parse_policy(LOCAL), parse_policy(PRODUCTION)
    assert [one.evidence for one in production.requirements] == [
        "scan",
        "signature",
        "training",
        "approval",
    ]
    assert production.requirements[0].max_age_ms == 30 * DAY
    assert production.requirements[3].distinct_from == ("publisher",)
    assert production.admission.origin_must_be_proven
    assert not local.admission.origin_must_be_proven
    assert [one.evidence for one in local.requirements] == ["scan"]
    for limit in ("address_per_second", "principal_per_second", "max_body_bytes"):
        assert getattr(production.limits, limit) < getattr(local.limits, limit)
    assert production.key_max_lifetime_ms < local.key_max_lifetime_ms
    assert production.token_max_lifetime_ms < local.token_max_lifetime_ms


def test_a_minted_keys_role_calls_and_nothing_else() -> None:
    assert parse_policy(LOCAL).roles["caller"] == frozenset({"model.predict"})


def test_there_is_no_other_profile() -> None:
    with pytest.raises(InputError) as caught:
        profile_text("../../etc/passwd")
    assert caught.value.code == "policy.unknown_profile"


def test_one_byte_more_is_another_digest() -> None:
    assert parse_policy(LOCAL + b"\n").digest != parse_policy(LOCAL).digest


@pytest.mark.parametrize(
    "data", [b"\xff", b"a = ", b"schema = 'x'\nschema = 'y'", b"a=" + b"[" * 9999]
)
def test_what_is_no_toml_is_malformed(data: bytes) -> None:
    refused(data, "policy.malformed")


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    assert "1 MiB" in refused(b"#" * ((1 << 20) + 1), "policy.malformed")


def test_a_newer_version_is_refused_by_name() -> None:
    refused(changed("policy/v1", "policy/v2"), "policy.newer_version")
    refused(changed("keepstone.policy/v1", "other/v1"))


def test_a_fault_names_its_line() -> None:
    cause = refused(changed('result = "clean"', 'result = "clean"\nmax_agee = "30d"'))
    line = LOCAL.decode().splitlines().index("[[require]]") + 1
    assert (
        cause == f"Policy, [[require]] (line {line}): `max_agee` is not a key that is known here."
    )
    # Where the file is written another way there is no line to name, and the fault stands.
    inline = changed('[access]\nmethods = ["api_key", "token", "local"]', "")
    inline = changed('profile = "local"', 'profile = "local"\naccess.methods = ["x"]', inline)
    assert refused(inline).startswith("Policy, [access]: `methods` may hold")


def test_a_table_that_is_none_is_refused() -> None:
    flat = changed('[audit]\nmode = "strict"', "")
    assert "`audit` is not a table" in refused(
        changed('profile = "local"', 'profile = "local"\naudit = "strict"', flat)
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('profile = "local"', 'profile = "lax"'),
        ('profile = "local"', "profile = 1"),
        ('profile = "local"', 'profile = "local"\nmore = 1'),
        ("[access]", "[acess]"),
        ("[access]", "[access.more]\n[access]"),
        ('methods = ["api_key", "token", "local"]', 'methods = ["header"]'),
        ('methods = ["api_key", "token", "local"]', 'methods = "api_key"'),
        ('methods = ["api_key", "token", "local"]', 'methods = ["api_key", "api_key"]'),
        ('methods = ["api_key", "token", "local"]', "methods = [1]"),
        ('methods = ["api_key", "token", "local"]', "way = []"),
        ('grants = ["model.predict"]', 'grants = ["model.admit"]'),
        ('grants = ["model.predict"]', 'grants = ["state.admission"]'),
        ('grants = ["model.predict"]', 'grants = ["*"]'),
        ('grants = ["model.predict"]', 'grants = ["model.predict"]\nmodels = ["*"]'),
        ("[roles.caller]", "[roles.Caller]"),
        ("[roles.caller]", "[roles.'a\"b']"),
        ("[roles.caller]", "[roles.gate]"),
        (
            'grants = ["state.scan", "state.signature", "state.vulnerabilities"]',
            'grants = ["state.scan", "state.approval"]',
        ),
        ('evidence = "scan"', 'evidence = "hope"'),
        ('role = "observer"', 'role = "oberver"'),
        ('role = "observer"', 'role = "approver"'),
        ('result = "clean"', 'result = "not_evaluated"'),
        ('result = "clean"', ""),
        ('result = "clean"', 'result = "clean"\nmax_age = "30"'),
        ('result = "clean"', 'result = "clean"\nmax_age = "0d"'),
        ('result = "clean"', 'result = "clean"\nmax_age = "9999d"'),
        ('result = "clean"', 'result = "clean"\nmax_age = 30'),
        ('result = "clean"', 'result = "clean"\ncount = 0'),
        ('result = "clean"', 'result = "clean"\ncount = 17'),
        ('result = "clean"', 'result = "clean"\ncount = true'),
        ('result = "clean"', 'result = "clean"\ncount = 1.0'),
        ('result = "clean"', 'result = "clean"\ndistinct_from = ["nobody"]'),
        ('result = "clean"', 'result = "clean"\nid = "a b"'),
        ("[[require]]", "[require]"),
        (
            "[[require]]",
            '[[require]]\nevidence = "signature"\nrole = "publisher"\n' * 17 + "[[require]]",
        ),
        ('lifetime = "1h"', 'lifetime = "25h"'),
        ('origin = "any"', 'origin = "none"'),
        ('mode = "strict"', 'mode = "off"'),
        ("address_per_second = 2000", "address_per_second = 0"),
        ("max_body_bytes = 8388608", "max_body_bytes = 9999999999"),
        ('header_timeout = "10s"', 'header_timeout = "2h"'),
        ('max_lifetime = "1h"', 'max_lifetime = "2h"'),
        ('max_lifetime = "90d"', 'max_lifetime = "367d"'),
    ],
)
def test_what_cannot_be_is_refused(old: str, new: str) -> None:
    assert refused(changed(old, new)).startswith("Policy, ")


@pytest.mark.parametrize(
    "section", ["roles.caller", "access", "admission", "limits", "audit", "keys"]
)
def test_nothing_is_filled_in_where_a_section_is_missing(section: str) -> None:
    value = tomllib.loads(LOCAL.decode())
    assert section.split(".")[0] in value
    refused(changed(f"[{section}]", f"[gone.{section}]"))


def test_a_policy_without_requirements_is_refused() -> None:
    start = LOCAL.index(b"[[require]]")
    refused(LOCAL[:start] + LOCAL[LOCAL.index(b"[admission]") :])


def test_two_requirements_of_one_kind_need_two_ids() -> None:
    twice = b'[[require]]\nevidence = "approval"\nrole = "approver"\n'
    at = LOCAL.index(b"[admission]")
    refused(LOCAL[:at] + twice + twice + LOCAL[at:])
    named = LOCAL[:at] + twice + twice + b'id = "second"\n' + LOCAL[at:]
    assert [one.id for one in parse_policy(named).requirements] == ["scan", "approval", "second"]


def test_too_many_of_a_table_are_refused() -> None:
    binding = b'[[bindings]]\nprincipal = "user:a"\nrole = "caller"\nmodels = ["digits"]\n'
    assert len(parse_policy(LOCAL + binding * 256).bindings) == 256
    refused(LOCAL + binding * 257)


# Signers.


def test_a_signer_is_added_and_covered_by_the_digest() -> None:
    data = add_signer(LOCAL, "alice", ("publisher", "approver"), KEY)
    policy = parse_policy(data)
    (signer,) = policy.signers
    assert (signer.name, signer.roles, signer.key) == ("alice", {"publisher", "approver"}, KEY)
    assert data.startswith(LOCAL.rstrip())
    assert policy.digest != parse_policy(LOCAL).digest


def test_a_signer_that_cannot_be_is_not_added() -> None:
    for name, roles in (
        ("observer", ("approver",)),
        ("gate", ("approver",)),
        ("alice", ("observer",)),
        ("alice", ("nobody",)),
        ("Alice", ("approver",)),
        ('a"\nroles = ["reinstater"]\n#', ("approver",)),
    ):
        with pytest.raises(InputError):
            add_signer(LOCAL, name, roles, KEY)


@pytest.mark.parametrize(
    "trick",
    [
        'alice"\nroles = ["reinstater"]\npublic_key = """\nx"""\n[[signers]]\nname = "bob',
        "alice\\u0065",
    ],
)
def test_a_name_cannot_write_policy(trick: str) -> None:
    with pytest.raises(InputError):
        add_signer(LOCAL, trick, ("approver",), KEY)


def test_a_role_cannot_write_policy() -> None:
    with pytest.raises(InputError):
        add_signer(LOCAL, "alice", ('approver", "reinstater',), KEY)


def test_one_key_is_one_signer() -> None:
    data = add_signer(LOCAL, "alice", ("publisher",), KEY)
    with pytest.raises(InputError, match="same public key"):
        add_signer(data, "bob", ("approver",), KEY)


@pytest.mark.parametrize(
    "pem", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"]
)
def test_a_signer_without_a_usable_key_is_refused(pem: str) -> None:
    block = f'\n[[signers]]\nname = "a"\nroles = ["approver"]\npublic_key = """{pem}"""\n'
    assert "public key of a" in refused(LOCAL + block.encode())


@pytest.mark.parametrize(
    "binding",
    [
        'principal = "alice"\nrole = "caller"\nmodels = ["*"]',
        'principal = "user:alice"\nrole = "root"\nmodels = ["*"]',
        'principal = "user:alice"\nrole = "caller"\nmodels = ["*", "digits"]',
        'principal = "user:alice"\nrole = "caller"\nmodels = []',
        'principal = "user:alice"\nrole = "caller"',
        'principal = "user:alice"\nrole = "caller"\nmodels = ["*"]\nuntil = "1d"',
    ],
)
def test_a_binding_that_cannot_be_is_refused(binding: str) -> None:
    refused(LOCAL + f"\n[[bindings]]\n{binding}\n".encode())


def test_a_credential_with_grants_has_those_and_no_more() -> None:
    bound = b'\n[[bindings]]\nprincipal = "user:alice"\nrole = "reader"\nmodels = ["*"]\n'
    policy = parse_policy(LOCAL + bound)
    own = frozenset({Grant("caller", ("digits",))})

    def principal(grants: frozenset[Grant], name: str = "user:alice") -> Principal:
        return Principal(name, PrincipalKind.TOKEN, grants, "token", "k")

    assert policy.grants_of(principal(own)) == own
    assert policy.grants_of(principal(frozenset())) == {Grant("reader")}
    assert policy.grants_of(principal(frozenset(), "user:bob")) == frozenset()


# Profiles mean what they are called.


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ('origin = "proven"', 'origin = "any"', "origin"),
        ('distinct_from = ["publisher"]', "", "distinct_from"),
        ('evidence = "approval"', 'id = "x"\nevidence = "approval_"', None),
        (
            'evidence = "signature"\nrole = "publisher"',
            'evidence = "training"\nid = "t2"\nrole = "publisher"',
            "signature",
        ),
    ],
)
def test_production_cannot_be_weaker_than_its_name(old: str, new: str, missing: str | None) -> None:
    data = changed(old, new, PRODUCTION)
    if missing is None:
        refused(data)
        return
    assert missing in refused(data, "policy.weaker_than_profile")
    # The same rules under the honest name are fine.
    assert parse_policy(changed('profile = "production"', 'profile = "local"', data))


def test_local_rules_called_production_are_refused() -> None:
    cause = refused(changed('"local"', '"production"'), "policy.weaker_than_profile")
    for kind in PRODUCTION_EVIDENCE:
        assert (kind in cause) is (kind != "scan")


# Trust.


def test_trust_joins_the_files_signers_and_the_workspaces_keys() -> None:
    observer, gate = SigningKey.generate().verifying, SigningKey.generate().verifying
    policy = parse_policy(add_signer(LOCAL, "alice", ("publisher", "approver"), KEY))
    trust = Trust.of(policy, observer=observer, gate=gate)
    assert trust.rights[KEY.key_id] == {"state.training", "state.bom", "state.approval"}
    assert trust.rights[observer.key_id] == OBSERVER_RIGHTS | {"state.sealing", "state.registered"}
    assert trust.rights[gate.key_id] == {"state.admission"}
    assert trust.signers[KEY.key_id].role == "approver+publisher"
    assert trust.person(KEY.key_id) == "alice"
    assert trust.has_role(observer.key_id, "observer")
    assert not trust.has_role("unknown", "observer")
    assert not any(right == "model.predict" for rights in trust.rights.values() for right in rights)


def test_a_key_of_the_workspace_cannot_also_be_a_signer() -> None:
    other = SigningKey.generate().verifying
    policy = parse_policy(add_signer(LOCAL, "alice", ("approver",), KEY))
    for observer, gate in ((KEY, other), (other, KEY), (other, other)):
        with pytest.raises(InputError) as caught:
            Trust.of(policy, observer=observer, gate=gate)
        assert caught.value.code == "policy.invalid"


def test_a_policy_without_an_observer_leaves_it_the_vault_alone() -> None:
    start, end = LOCAL.index(b"[roles.observer]"), LOCAL.index(b"[roles.publisher]")
    data = (LOCAL[:start] + LOCAL[end:]).replace(
        b'evidence = "scan"\nrole = "observer"\nresult = "clean"',
        b'evidence = "training"\nrole = "publisher"',
    )
    observer, gate = SigningKey.generate().verifying, SigningKey.generate().verifying
    trust = Trust.of(parse_policy(data), observer=observer, gate=gate)
    assert trust.rights[observer.key_id] == {"state.sealing", "state.registered"}


# Fuzz.

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(sorted(RIGHTS)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(max(-(2**62), min(value, 2**62)))
    if isinstance(value, str):
        return (
            '"' + "".join(f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
        )
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return "1979-05-27T07:32:00Z"


@given(
    st.sampled_from(
        sorted({line for line in LOCAL.decode().splitlines() if " = " in line and line[0] != "#"})
    ),
    VALUES,
)
def test_any_value_in_any_place_is_refused_by_name_or_kept_to_its_type(
    line: str, value: Any
) -> None:
    data = changed(line, f"{line.split(' = ')[0]} = {_toml(value)}")
    with contextlib.suppress(InputError):
        policy = parse_policy(data)
        assert policy.methods <= METHODS
        assert policy.requirements
        compile_policy(policy)


@given(st.binary(max_size=200), st.integers(0, len(LOCAL)))
def test_any_bytes_anywhere_end_in_a_coded_error(junk: bytes, place: int) -> None:
    with contextlib.suppress(InputError):
        compile_policy(parse_policy(LOCAL[:place] + junk + LOCAL[place:]))


ROLES = st.dictionaries(
    st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?", fullmatch=True).filter(
        lambda name: ".." not in name and name not in ("gate", "observer")
    ),
    st.frozensets(st.sampled_from(["model.predict", "model.read", "metrics.read", "state.scan"])),
    max_size=5,
)


@given(ROLES)
def test_every_policy_that_reads_validates(roles: dict[str, frozenset[str]]) -> None:
    known = parse_policy(LOCAL).roles
    text = "".join(
        f'[roles."{name}"]\ngrants = {sorted(grants)}\n'
        for name, grants in roles.items()
        if name not in known
    )
    compile_policy(parse_policy(LOCAL + b"\n" + text.encode()))


OWN = "\n[limits.roles.red-team]\nper_second = 5000\nburst = 10000\n\n[limits.roles.caller]\n"


def test_a_role_may_have_a_limit_of_its_own() -> None:
    data = LOCAL + (OWN + "per_second = 7\nburst = 7\n").encode()
    limits = parse_policy(data).limits
    own = limits.of_roles({"red-team", "reader"})
    assert own is not None
    assert (own.per_second, own.burst) == (5000, 10000)
    # Of several the first in the file counts.
    assert limits.of_roles({"caller", "red-team"}) == own
    assert limits.of_roles({"reader"}) is None
    assert parse_policy(LOCAL).limits.of_roles({"red-team"}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "per_second = 7\n",
        "per_second = 0\nburst = 7\n",
        "per_second = 7\nburst = 7\nmore = 1\n",
        "per_second = 7\nburst = 7\n[limits.roles.nobody]\nper_second = 7\nburst = 7\n",
    ],
)
def test_a_limit_of_a_role_that_cannot_be(wrong: str) -> None:
    refused(LOCAL + (OWN + wrong).encode())
