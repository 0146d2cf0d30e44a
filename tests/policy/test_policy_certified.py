"""Signers whom an authority names: who they are is in the file, and one person stays one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.evidence.keyless import Keyless
from keepstone.evidence.predicates import Signature, Target
from keepstone.evidence.signedby import ByChain, ByKey
from keepstone.identity.certificates import TrustRoots
from keepstone.policy.certified import ByAuthority, ByIssuer, CertifiedSigner
from keepstone.policy.explain import warnings
from keepstone.policy.parse import add_signer, parse_policy, profile_text
from tests.pki import authority, publisher
from tests.policy.conftest import KEYS, World, policy_of

ROOT, OTHER = authority(), authority("Other")
ROOTS = TrustRoots.parse(ROOT.pem)
PIPELINE = "spiffe://example.org/training"
BY_ROOT = ByAuthority(PIPELINE, ROOTS)
BY_LOG = ByIssuer("ci@example.org", "https://issuer.example", b'{"tlogs": []}')
LOCAL = profile_text("local")


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse_policy(data)
    assert caught.value.code == "policy.invalid"
    return caught.value.cause


@pytest.mark.parametrize("who", [BY_ROOT, BY_LOG], ids=["authority", "issuer"])
def test_a_certified_signer_is_added_and_read_back(who: CertifiedSigner) -> None:
    policy = parse_policy(add_signer(LOCAL, "training", ("publisher",), who))
    (signer,) = policy.signers
    assert (signer.name, signer.roles, signer.key) == ("training", {"publisher"}, None)
    assert signer.signer_id == who.signer_id
    assert len(who.signer_id) == 64
    assert policy.digest != parse_policy(LOCAL).digest


def test_each_signer_says_what_its_signatures_must_show() -> None:
    data = add_signer(LOCAL, "alice", ("publisher",), KEYS["alice"].verifying)
    data = add_signer(data, "training", ("publisher",), BY_ROOT)
    data = add_signer(data, "ci", ("publisher",), BY_LOG)
    alice, training, ci = (signer.expected(5) for signer in parse_policy(data).signers)
    assert alice == ByKey(KEYS["alice"].verifying)
    assert isinstance(training, ByChain)
    assert (training.now, training.identity) == (5, PIPELINE)
    assert training.roots.fingerprints == ROOTS.fingerprints
    assert isinstance(ci, Keyless)
    assert (ci.identity, ci.issuer) == ("ci@example.org", "https://issuer.example")


def test_everything_that_decides_is_in_the_id() -> None:
    ids = {
        BY_ROOT.signer_id,
        BY_LOG.signer_id,
        replace(BY_ROOT, identity="x").signer_id,
        replace(BY_ROOT, roots=TrustRoots.parse(OTHER.pem)).signer_id,
        replace(BY_ROOT, roots=TrustRoots.parse(ROOT.pem + OTHER.pem)).signer_id,
        replace(BY_LOG, identity="x").signer_id,
        replace(BY_LOG, issuer="x").signer_id,
        replace(BY_LOG, trusted_root=b"{}").signer_id,
    }
    assert len(ids) == 8
    turned = replace(BY_ROOT, roots=TrustRoots.parse(OTHER.pem + ROOT.pem))
    assert (
        turned.signer_id == replace(turned, roots=TrustRoots.parse(ROOT.pem + OTHER.pem)).signer_id
    )


def test_one_identity_is_one_person() -> None:
    """Under a second name it could sign and approve, or count twice."""
    data = add_signer(LOCAL, "training", ("publisher",), BY_ROOT)
    wider = replace(BY_ROOT, roots=TrustRoots.parse(ROOT.pem + OTHER.pem))
    with pytest.raises(InputError, match="same certified identity"):
        add_signer(data, "other", ("approver",), wider)
    with pytest.raises(InputError, match="same public key, or the same certificate"):
        add_signer(data, "training", ("approver",), BY_ROOT)
    assert len(parse_policy(add_signer(data, "training", ("approver",), wider)).signers) == 2
    # Another issuer may know somebody else by the same name.
    both = add_signer(data, "ci", ("publisher",), replace(BY_LOG, identity=PIPELINE))
    assert len(parse_policy(both).signers) == 2


PEM = ROOT.pem.decode()
LEAF_PEM = publisher(ROOT).pem.decode()
HEAD = '\n[[signers]]\nname = "a"\nroles = ["publisher"]\n'


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (f'[signers.certificate]\nroots = """{PEM}"""\n', "`identity` is missing"),
        ('[signers.certificate]\nidentity = "x"\n', "`roots` is missing"),
        (f'[signers.certificate]\nidentity = ""\nroots = """{PEM}"""\n', "`identity` is empty"),
        ('[signers.certificate]\nidentity = "x"\nroots = "no"\n', "certificate of a cannot"),
        (
            f'[signers.certificate]\nidentity = "x"\nroots = """{LEAF_PEM}"""\n',
            "no authority",
        ),
        (f'[signers.certificate]\nidentity = "x"\nroots = """{PEM}"""\nmore = 1\n', "`more`"),
        ('[signers.keyless]\nidentity = "x"\ntrusted_root = "{}"\n', "`issuer` is missing"),
        ('[signers.keyless]\nidentity = "x"\nissuer = ""\ntrusted_root = "{}"\n', "is empty"),
        ('[signers.keyless]\nidentity = "x"\nissuer = "y"\n', "`trusted_root` is missing"),
        (
            '[signers.keyless]\nidentity = "x"\nissuer = "y"\ntrusted_root = "{}"\nx = 1\n',
            "`x` is not a key",
        ),
        (f'public_key = "x"\n[signers.certificate]\nidentity = "x"\nroots = """{PEM}"""\n', "both"),
        ("", "`public_key` is missing"),
    ],
)
def test_a_signer_that_is_named_by_half_is_refused(told: str, why: str) -> None:
    assert why in refused(LOCAL + HEAD.encode() + told.encode())


@pytest.mark.parametrize(
    "identity",
    [
        'x"\nroots = """y"""\n[[signers]]\nname = "eve',
        "x\\u0022",
        "x\ny",
        "x\u202ey",
        "",
    ],
)
def test_an_identity_cannot_write_policy(identity: str) -> None:
    for who in (replace(BY_ROOT, identity=identity), replace(BY_LOG, identity=identity)):
        with pytest.raises(InputError):
            add_signer(LOCAL, "training", ("publisher",), who)


def test_a_trusted_root_cannot_write_policy() -> None:
    trick = b"{}'''\n[[signers]]\nname = \"eve\"\nroles = [\"approver\"]\npublic_key = '''x"
    with pytest.raises(InputError):
        add_signer(LOCAL, "ci", ("publisher",), replace(BY_LOG, trusted_root=trick))


@given(st.text(max_size=40), st.text(max_size=40), st.binary(max_size=60))
def test_what_is_added_is_what_was_meant_or_nothing(
    identity: str, issuer: str, root: bytes
) -> None:
    who = ByIssuer(identity, issuer, root)
    try:
        data = add_signer(LOCAL, "ci", ("publisher",), who)
    except InputError:
        return
    (signer,) = parse_policy(data).signers
    assert signer.signer_id == who.signer_id


# Roles: who may sign for production.


def pipeline_policy() -> bytes:
    """Production, where only the training pipeline signs."""
    data = policy_of("production").decode()
    data = data.replace(
        "[roles.approver]", "[roles.training-pipeline]\ngrants = []\n\n[roles.approver]"
    )
    data = data.replace(
        'evidence = "signature"\nrole = "publisher"',
        'evidence = "signature"\nrole = "training-pipeline"',
    ).replace('distinct_from = ["publisher"]', 'distinct_from = ["publisher", "training-pipeline"]')
    return add_signer(data.encode(), "training", ("training-pipeline",), BY_ROOT)


def world() -> World:
    place = World(pipeline_policy())
    place.scan()
    place.train()
    place.approve()
    return place


def observed(place: World, signer_id: str) -> None:
    place.state(Signature(place.made(), ROOT_DIGEST, signer_id), "observer")


ROOT_DIGEST = Target("artifact", World(b"").subject.digest).digest


def test_the_pipelines_signature_is_what_production_asks_for() -> None:
    place = world()
    assert not place.judge().allowed
    observed(place, BY_ROOT.signer_id)
    assert place.judge().allowed


@pytest.mark.parametrize(
    "signer_id",
    [
        KEYS["alice"].key_id,  # a publisher, and not the pipeline
        KEYS["bob"].key_id,
        KEYS["stranger"].key_id,
        replace(BY_ROOT, identity="spiffe://example.org/laptop").signer_id,
        replace(BY_ROOT, roots=TrustRoots.parse(OTHER.pem)).signer_id,
    ],
    ids=["publisher", "approver", "stranger", "another identity", "another root"],
)
def test_nobody_else_signs_for_production(signer_id: str) -> None:
    place = world()
    observed(place, signer_id)
    verdict = place.judge()
    assert not verdict.allowed
    assert "require.signature" in [
        reason.rule for reason in verdict.reasons if not reason.satisfied
    ]


def test_who_signs_cannot_approve_under_the_same_name() -> None:
    data = add_signer(pipeline_policy(), "training", ("approver",), KEYS["bob2"].verifying)
    place = World(data)
    place.scan()
    place.train()
    observed(place, BY_ROOT.signer_id)
    place.approve(by="bob2")
    verdict = place.judge()
    assert not verdict.allowed
    place.approve(by="bob")
    assert place.judge().allowed


def test_a_revoked_identity_signs_no_more() -> None:
    from keepstone.core.digest import Digest

    place = world()
    observed(place, BY_ROOT.signer_id)
    assert place.judge().allowed
    place.revoke(target=Target("key", Digest(BY_ROOT.signer_id)))
    assert not place.judge().allowed


def test_production_bars_whoever_signs_from_approving() -> None:
    """By whatever role the policy knows its makers, not by the name `publisher` alone."""
    text = pipeline_policy().replace(
        b'distinct_from = ["publisher", "training-pipeline"]', b'distinct_from = ["publisher"]'
    )
    with pytest.raises(InputError) as caught:
        parse_policy(text)
    assert caught.value.code == "policy.weaker_than_profile"
    assert "training-pipeline" in caught.value.cause


def test_a_certified_signer_states_nothing_and_check_says_so() -> None:
    place = World(pipeline_policy())
    trust = place.trust()
    assert trust.person(BY_ROOT.signer_id) == "training"
    assert trust.has_role(BY_ROOT.signer_id, "training-pipeline")
    assert BY_ROOT.signer_id not in trust.signers
    assert BY_ROOT.signer_id not in trust.rights
    # Its role grants nothing, and is asked for all the same.
    assert warnings(trust.policy) == ()
    only = add_signer(profile_text("production"), "training", ("publisher", "approver"), BY_ROOT)
    told = warnings(parse_policy(only))
    assert any("require.training" in line for line in told)
    assert any("require.approval" in line for line in told)
    assert not any("require.signature" in line for line in told)
