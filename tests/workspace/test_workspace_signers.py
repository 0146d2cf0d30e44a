"""Who may sign for production: the training pipeline, by its key or by what certifies it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.evidence.made import Input
from keepstone.evidence.modelsign import sign_model, verify_model
from keepstone.evidence.predicates import Signature, Training
from keepstone.evidence.statement import make_statement
from keepstone.identity.certificates import SigningChain, TrustRoots
from keepstone.policy.certified import ByAuthority, ByIssuer
from keepstone.policy.parse import add_signer
from keepstone.workspace.operations import perform
from keepstone.workspace.reading import find_subject
from keepstone.workspace.statements import revoke
from tests.pki import Holder, authority, publisher
from tests.sigstore_instance import IDENTITY, ISSUER, Ask, Sigstore
from tests.workspace.conftest import NOW

MOMENT = datetime.fromtimestamp(NOW / 1000, UTC)
LIFE = {"begins": MOMENT - timedelta(days=1), "ends": MOMENT + timedelta(days=30)}
ROOT = authority(**LIFE)
PIPELINE = publisher(ROOT, "training@example.org", **LIFE)
LAPTOP = publisher(ROOT, "laptop@example.org", **LIFE)
SIGSTORE = Sigstore()


@pytest.fixture
def production(bare: Any) -> Any:
    """Production where only the role `training-pipeline` signs; its signer is yet to be named."""
    place = bare.create("production").with_people()
    place.edit_policy(
        "[roles.approver]", "[roles.training-pipeline]\ngrants = []\n\n[roles.approver]"
    )
    place.edit_policy(
        'evidence = "signature"\nrole = "publisher"',
        'evidence = "signature"\nrole = "training-pipeline"',
    )
    place.edit_policy('["publisher"]\nmax_age', '["publisher", "training-pipeline"]\nmax_age')
    return place


def name(place: Any, who: Any) -> None:
    policy = place.layout.policy.read_bytes()
    roles = ("training-pipeline",)
    place.layout.policy.write_bytes(add_signer(policy, "training", roles, who))


def chained(place: Any, holder: Holder) -> None:
    """Sign the model as `holder`, whose certificate goes along."""
    chain = SigningChain.parse(holder.pem)
    bundle = sign_model(place.model(), holder.key, chain=chain)
    place.model().with_name("scale.onnx.sig").write_bytes(bundle)


def approved(place: Any, workspace: Any, code: Callable[..., str]) -> None:
    """Everything else that production asks for."""
    assert code(place.submit, workspace).startswith("gate.")
    subject = find_subject(workspace.evidence, "scale")
    said = Training(place.made(), "numpy", {}, {}, Input("d", Digest("ee" * 32)))
    workspace.record(make_statement(subject, said, place.keys["alice"]))
    workspace.record(place.approval(subject))


@pytest.mark.parametrize("by", ["key", "authority", "issuer"])
def test_the_pipeline_signs_for_production(
    production: Any, code: Callable[..., str], by: str
) -> None:
    if by == "key":
        name(production, PIPELINE.key.verifying)
        chained(production, PIPELINE)
    elif by == "authority":
        name(production, ByAuthority("training@example.org", TrustRoots.parse(ROOT.pem)))
        chained(production, PIPELINE)
    else:
        name(production, ByIssuer(IDENTITY, ISSUER, SIGSTORE.trusted_root()))
        key = PIPELINE.key
        model = production.model()
        files = verify_model(model, sign_model(model, key), key.verifying).files
        bundle = SIGSTORE.sign(files, Ask(at=MOMENT - timedelta(days=2)))
        model.with_name("scale.onnx.sig").write_bytes(bundle)
    with production.open() as workspace:
        approved(production, workspace, code)
        admitted = production.submit(workspace)
        assert admitted.verdict.allowed
        assert "signed by training" in production.heard.told[2]
        # Weeks later the certificate has ended; what was observed while it held, still holds.
        production.clock.now += 40 * 86_400_000
        assert production.submit(workspace).verdict.allowed
        (item,) = [
            one for one in workspace.evidence.statements if isinstance(one.predicate, Signature)
        ]
        assert workspace.trust.person(item.predicate.publisher) == "training"


def test_a_key_that_may_not_sign_for_production_is_refused(
    production: Any, code: Callable[..., str]
) -> None:
    """The attack: a trusted publisher, and a laptop that the same authority certifies."""
    name(production, ByAuthority("training@example.org", TrustRoots.parse(ROOT.pem)))
    signature = production.model().with_name("scale.onnx.sig")
    with production.open() as workspace:
        signature.write_bytes(sign_model(production.model(), production.keys["alice"]))
        approved(production, workspace, code)
        assert code(production.submit, workspace) == "gate.denied/1"
        assert "signed by alice" in production.heard.told[2]
        chained(production, LAPTOP)
        assert code(production.submit, workspace) == "gate.denied/1"
        assert production.heard.warnings == ["The signature is by nobody whom the policy names."]
        # Another authority's word for the right name.
        chained(production, publisher(authority(**LIFE), "training@example.org", **LIFE))
        assert code(production.submit, workspace) == "gate.denied/1"
        chained(production, PIPELINE)
        assert production.submit(workspace).verdict.allowed


def test_an_expired_certificate_signs_nothing_new(
    production: Any, code: Callable[..., str]
) -> None:
    name(production, ByAuthority("training@example.org", TrustRoots.parse(ROOT.pem)))
    chained(production, PIPELINE)
    production.clock.now += 31 * 86_400_000
    with production.open() as workspace:
        approved(production, workspace, code)
        assert code(production.submit, workspace) == "gate.denied/1"


def test_a_chain_over_another_model_is_no_strangers_signature(
    production: Any, code: Callable[..., str]
) -> None:
    name(production, ByAuthority("training@example.org", TrustRoots.parse(ROOT.pem)))
    chained(production, PIPELINE)
    other = production.model(scale=5.0)
    with production.open() as workspace:
        assert code(production.submit, workspace, other) == "model.mismatch/1"


def test_a_revoked_identity_stops_what_it_signed(production: Any, code: Callable[..., str]) -> None:
    who = ByAuthority("training@example.org", TrustRoots.parse(ROOT.pem))
    name(production, who)
    chained(production, PIPELINE)
    with production.open() as workspace:
        approved(production, workspace, code)
        assert production.submit(workspace).verdict.allowed
    # By the beginning of its id, as `signers list` shows it.
    revoke(production.site, "key", who.signer_id[:16], production.keys["carol"], "stolen")
    with production.open() as workspace:
        assert code(production.submit, workspace) == "gate.denied/1"


def test_a_certified_signer_is_added_by_the_owner(home: Any, code: Callable[..., str]) -> None:
    roots = {"identity": "training@example.org", "roots": ROOT.pem.decode()}
    given = {"name": "training", "roles": ["publisher"]}
    answer = perform(home.site, "signers.add", given | roots)
    assert answer["key_id"] == ByAuthority(roots["identity"], TrustRoots.parse(ROOT.pem)).signer_id
    log = {"identity": IDENTITY, "issuer": ISSUER}
    log |= {"trusted_root": SIGSTORE.trusted_root().decode()}
    perform(home.site, "signers.add", given | {"name": "ci"} | log)
    with home.open() as workspace:
        assert set(workspace.trust.names.values()) >= {"training", "ci"}
    assert code(perform, home.site, "signers.add", given) == "control.malformed/2"
    assert code(perform, home.site, "signers.add", given | roots | {"roots": "x"}) == (
        "certificate.malformed/2"
    )
