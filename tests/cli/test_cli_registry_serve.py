"""A registry served to several principals: each sees, takes and moves what is theirs, on record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keepstone
from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, VerificationError
from keepstone.evidence.dsse import Envelope
from keepstone.evidence.made import Made, Tool
from keepstone.evidence.predicates import Approval
from keepstone.evidence.statement import make_statement
from keepstone.identity.signing import SigningKey
from keepstone.ledger import LedgerReader, parse_entry
from keepstone.vault import carry
from keepstone.vault.staging import Staged, stage
from keepstone.workspace.intake import Submission
from keepstone.workspace.layout import Layout
from keepstone.workspace.operations import perform
from keepstone.workspace.registry.answers import Reader
from keepstone.workspace.site import Site
from tests.cli.conftest import Place, make_model  # type: ignore[import-not-found]

pytestmark = pytest.mark.loopback


class Served:
    """The place, its running registry, and clients of it."""

    def __init__(self, place: Any) -> None:
        self.place = place
        place.must("init")
        policy = place.workspace / "policy.toml"
        text = policy.read_text()
        policy.write_text(
            text.replace("# team = []", 'team = ["risk", "growth"]').replace(
                "production = { four_eyes = false }", "production = { four_eyes = true }"
            )
        )
        self.ready = place.start("registry", "serve")
        self.site = Site(Layout(place.workspace), place.root / "outside")

    def key(self, name: str, *roles: str, **conditions: Any) -> str:
        """An API key, minted through the owner's door."""
        asked = {"models": ["*"], "principal": f"user:{name}", "roles": list(roles)}
        lifetime = {"lifetime_ms": 3_600_000}
        return str(perform(self.site, "keys.create", asked | lifetime | conditions)["key"])

    def client(
        self, name: str, *roles: str, gate: str | None = "", **conditions: Any
    ) -> keepstone.RemoteRegistry:
        gate_key = self.ready["gate_key"] if gate == "" else gate
        return keepstone.connect(
            self.ready["url"],
            key=self.key(name, *roles, **conditions),
            ca=Path(self.ready["ca"]),
            gate_key=gate_key,
        )

    def model(self, scale: float) -> Path:
        return make_model(self.place.root / f"m{scale}.onnx", scale=scale)

    def push(self, who: Any, name: str, scale: float, team: str = "risk") -> dict[str, Any]:
        return who.push(Submission(self.model(scale), name), {"team": team})

    def size(self) -> int:
        with LedgerReader.open(self.site.layout.ledger) as reader:
            return sum(1 for _ in reader.entries())

    def carried(self, text: str) -> Envelope:
        """The admission that a pull carries, as the server sends it."""
        client = self.client("carrier", "puller")
        name, _, version = text.partition("@")
        with client._answer("GET", f"/v1/models/{name}/versions/{version}/content") as answer:
            head = carry.read_head(Reader(answer.iter_raw()).readinto)
        return Envelope.from_dict(head["admission"])

    @contextmanager
    def staged(self, scale: float) -> Iterator[Staged]:
        staged = stage(self.model(scale), self.place.root / "staged")
        try:
            yield staged
        finally:
            staged.discard()

    def accesses(self) -> list[tuple[str, str, str, str]]:
        with LedgerReader.open(self.site.layout.ledger) as reader:
            found = [parse_entry(body) for _, body in reader.entries()]
        return [
            (one["principal"], one["action"], one["asked"], one["outcome"])
            for one in found
            if one["kind"] == "access"
        ]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One registry for all tests here; each has names of models of its own."""
    here = Place(tmp_path_factory.mktemp("registry"))
    try:
        yield Served(here)
    finally:
        here.close()


def test_two_principals_see_and_load_different_models_and_the_ledger_shows_each_attempt(
    served: Served, tmp_path: Path
) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "fraud", 2.0, "risk")
    served.push(publisher, "churn", 3.0, "growth")
    for name in ("fraud", "churn"):
        publisher.promote(f"{name}@1", "staging")
    alice = served.client("alice", "puller", models=["fraud"])
    bob = served.client("bob", "puller", where={"team": ["growth"]})

    assert [one["model"] for one in alice.list()["versions"]] == ["fraud"]
    assert [one["model"] for one in bob.list()["versions"]] == ["churn"]
    rows = {"x": np.ones((1, 3), np.float32)}
    assert alice.load("fraud@staging").runtime.predict(rows)["y"].tolist() == [[2.0, 2.0, 2.0]]
    assert bob.load("churn@1").runtime.predict(rows)["y"].tolist() == [[3.0, 3.0, 3.0]]
    # What is not theirs and what is not there are one answer.
    told = []
    for who, text in ((alice, "churn@1"), (alice, "nothing@1"), (bob, "fraud@staging")):
        with pytest.raises(InputError) as caught:
            who.load(text)
        told.append((caught.value.code, caught.value.cause.replace(text, "X")))
    assert len(set(told)) == 1
    assert told[0][0] == "registry.not_found"
    seen = served.accesses()
    assert ("user:alice", "pull", "fraud@staging", "allowed") in seen
    assert ("user:alice", "pull", "churn@1", "registry.not_found") in seen
    assert ("user:bob", "pull", "fraud@staging", "registry.not_found") in seen


def test_a_promotion_takes_two_and_neither_is_who_pushed(served: Served) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    first, second = served.client("ann", "releaser"), served.client("ben", "releaser")
    served.push(publisher, "fraud-1", 2.0)
    assert first.promote("fraud-1@1", "production")["state"] == "proposed"
    for who, code in ((first, "registry.own_proposal"), (publisher, "registry.own_push")):
        with pytest.raises(DeniedError) as caught:
            who.promote("fraud-1@1", "production")
        assert caught.value.code == code
    with pytest.raises(InputError):
        second.load("fraud-1@production")
    assert second.promote("fraud-1@1", "production")["state"] == "moved"
    assert second.withdraw is not None
    with pytest.raises(DeniedError):
        # Releasing is not pulling.
        second.load("fraud-1@production")


def test_a_push_is_what_was_sent_and_the_right_is_asked_before_a_byte(
    served: Served, tmp_path: Path
) -> None:
    publisher = served.client("publisher", "pusher", where={"team": ["risk"]})
    done = served.push(publisher, "fraud-2", 2.0)
    assert (done["number"], done["known"], done["scan"]) == (1, False, "clean")
    assert served.push(publisher, "fraud-2", 2.0)["known"]
    with pytest.raises(DeniedError, match="policy"):
        served.push(publisher, "fraud-2", 4.0, "growth")
    with pytest.raises(InputError) as caught:
        served.push(publisher, "fraud-2", 4.0, "sales")
    assert caught.value.code == "registry.attributes"
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DeniedError) as refused:
        publisher.push(Submission(evil, "fraud-2"), {"team": "risk"})
    assert refused.value.code == "registry.flagged"
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(served.model(5.0), folder / "sub" / "model.onnx")
    (folder / "notes.txt").write_text("about it\n")
    assert publisher.push(Submission(folder, "fraud-2"), {"team": "risk"})["number"] == 2
    reader = served.client("reader", "puller", "examiner")
    out = tmp_path / "out"
    reader.pull("fraud-2@2", out, examine="to look")
    assert sorted(path.name for path in out.rglob("*")) == ["model.onnx", "notes.txt", "sub"]
    assert (out / "sub" / "model.onnx").read_bytes() == served.model(5.0).read_bytes()


def test_nothing_is_taken_on_the_servers_word(served: Served, tmp_path: Path) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "fraud-3", 2.0)
    reader = served.client("reader", "puller")
    pulled = reader.pull("fraud-3@1", tmp_path / "fraud.onnx")
    assert pulled.admission is not None
    assert (tmp_path / "fraud.onnx").read_bytes() == served.model(2.0).read_bytes()
    with pytest.raises(InputError) as caught:
        reader.pull("fraud-3@1", tmp_path / "fraud.onnx")
    assert caught.value.code == "target.exists"
    for gate, code in ((None, "registry.no_gate_key"), ("0" * 64, "registry.wrong_gate")):
        other = served.client("other", "puller", gate=gate)
        with pytest.raises((InputError, VerificationError)) as refused:
            other.pull("fraud-3@1", tmp_path / "never")
        assert refused.value.code == code
    assert not (tmp_path / "never").exists()


def test_a_revocation_ends_it_for_everybody_at_once(served: Served, tmp_path: Path) -> None:
    # Bytes that no other test here pushes: they are revoked under every name.
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "fraud-4", 6.0)
    publisher.promote("fraud-4@1", "staging")
    reader = served.client("reader", "puller")
    reader.load("fraud-4@staging")
    responder = served.place.signer("responder", "responder")
    served.place.must("revoke", "fraud-4@1", "--as", responder, "--reason", "poisoned")
    for text in ("fraud-4@staging", "fraud-4@1"):
        with pytest.raises(DeniedError) as caught:
            reader.load(text)
        assert caught.value.code == "gate.revoked"


def test_a_blob_changed_in_the_store_never_arrives(served: Served, tmp_path: Path) -> None:
    publisher = served.client("publisher", "pusher")
    served.push(publisher, "fraud-5", 2.0)
    reader = served.client("reader", "puller")
    blob = next((served.place.workspace / "vault").rglob("fraud-5.sealed"))
    data = bytearray(blob.read_bytes())
    data[-20] ^= 1
    blob.write_bytes(data)
    with pytest.raises((VerificationError, keepstone.KeepstoneError)):
        reader.pull("fraud-5@1", tmp_path / "never")
    assert list(tmp_path.glob("*never*")) == []


_MOVES: list[Callable[[Any], Any]] = [
    lambda who: who.show("hidden@1"),
    lambda who: who.show("hidden"),
    lambda who: who.diff("hidden@1", "hidden@1"),
    lambda who: who.alias("hidden@1", "best"),
    lambda who: who.remove_alias("hidden", "best"),
    lambda who: who.promote("hidden@1", "staging"),
    lambda who: who.withdraw("hidden@1", "production"),
    lambda who: who.deprecate("hidden@1", "old"),
    lambda who: who.pull("hidden@1", Path("never")),
]


def test_to_a_stranger_there_is_nothing(served: Served) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "hidden", 2.0)
    stranger = served.client("eve", "puller", "releaser", "pusher", models=["other"])
    for move in _MOVES:
        with pytest.raises(InputError) as caught:
            move(stranger)
        assert caught.value.code == "registry.not_found"
    assert stranger.list()["versions"] == []


def test_a_pull_elsewhere_changes_nothing_here(served: Served, tmp_path: Path) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "fraud-9", 9.0)
    served.push(publisher, "fraud-9", 9.5)
    loaded = keepstone.load("fraud-9@2", workspace=served.site)
    served.client("reader", "puller").pull("fraud-9@1", tmp_path / "first")
    # What the bare name means is what was admitted here last.
    assert keepstone.load("fraud-9", workspace=served.site).digest == loaded.digest


def test_a_statement_is_brought_once_and_by_who_sees_the_model(
    served: Served, tmp_path: Path
) -> None:
    publisher = served.client("publisher", "pusher", "releaser")
    served.push(publisher, "fraud-10", 10.0)
    signer = SigningKey.generate()
    public = tmp_path / "ann.pem"
    public.write_bytes(signer.verifying.pem)
    served.place.must("signers", "add", "ann-10", public, "--role", "approver")
    version = publisher.show("fraud-10@1")
    subject = Subject("fraud-10", Digest.parse(version["digest"]))
    made = Made(Tool("keepstone", "0"), int(time.time() * 1000))
    approval = make_statement(subject, Approval(made, "looked at it"), signer)
    stranger = served.client("eve", "puller", models=["other"])
    with pytest.raises(InputError) as caught:
        stranger.record(approval)
    assert caught.value.code == "registry.not_found"
    assert publisher.record(approval)["kind"] == "approval"
    size = served.size()
    with pytest.raises(InputError) as caught:
        publisher.record(approval)
    assert caught.value.code == "registry.known_statement"
    # The attempt is on the record; the statement is not there twice.
    assert served.size() == size + 1
    # What the gate signs for one pull is no evidence that somebody can bring.
    pulled = served.client("reader", "puller").pull("fraud-10@1", tmp_path / "model")
    assert pulled.admission is not None
    with pytest.raises(DeniedError) as denied:
        publisher.record(served.carried("fraud-10@1"))
    assert denied.value.code == "statement.own"


def test_what_fails_on_its_way_is_on_the_record(served: Served) -> None:
    publisher = served.client("publisher", "pusher")
    for body in (b"", b"\x00\x00\x00\x02{}", b"\xff" * 100):
        with pytest.raises(InputError) as caught:
            publisher._ask("POST", "/v1/models/fraud-11/versions", content=body)
        assert caught.value.code == "carry.malformed"
    told = [one for one in served.accesses() if one[2] == "fraud-11"]
    assert told == [("user:publisher", "push", "fraud-11", "carry.malformed")] * 3


def test_more_than_was_declared_is_never_taken(served: Served) -> None:
    publisher = served.client("publisher", "pusher")
    with served.staged(11.0) as staged:
        for size in (0, staged.size - 1, staged.size + 1):
            head = {
                "schema": "keepstone.push/v1",
                "digest": str(staged.digest),
                "size": size,
                "attributes": {"team": "risk"},
                "note": "",
                "signature": None,
                "statements": None,
            }
            body = carry.head_bytes(head) + b"".join(carry.pieces(staged))
            with pytest.raises(InputError) as caught:
                publisher._ask("POST", "/v1/models/fraud-12/versions", content=body)
            assert caught.value.code == "carry.malformed"
    assert list((served.place.workspace / "staging").iterdir()) == []


def test_the_commands_ask_a_server_as_they_ask_the_workspace(served: Served) -> None:
    place, ready = served.place, served.ready
    files = {}
    for name, roles in (
        ("pia", ["pusher", "releaser"]),
        ("rex", ["releaser", "puller"]),
        ("ida", ["examiner"]),
    ):
        files[name] = place.root / f"{name}.key"
        files[name].touch(0o600)
        files[name].write_text(served.key(name, *roles))

    def ask(who: str, *command: object, code: int = 0) -> Any:
        done = place.run(
            *command,
            KEEPSTONE_REGISTRY=ready["url"],
            KEEPSTONE_CA=ready["ca"],
            KEEPSTONE_KEY_FILE=str(files[who]),
        )
        assert done.returncode == code, done.stderr
        return done

    model = served.model(7.0)
    pushed = ask("pia", "push", model, "--name", "fraud-8", "--attribute", "team=risk")
    assert pushed.stdout.strip() == "fraud-8@1"
    other = served.model(8.0)
    ask("pia", "push", other, "--name", "fraud-8", "--attribute", "team=risk")
    assert "fraud-8@2" in ask("ida", "list").stdout
    assert "admits it" in ask("ida", "show", "fraud-8@1").stdout
    assert ask("ida", "diff", "fraud-8@1", "fraud-8@2", code=1).stdout.startswith("digest")
    ask("pia", "alias", "fraud-8", "best", "1")
    assert ask("pia", "promote", "fraud-8@1", "--to", "production").stdout.strip() == "proposed"
    ask("pia", "promote", "fraud-8@1", "--to", "production", code=1)
    assert ask("rex", "promote", "fraud-8@1", "--to", "production").stdout.strip() == "moved"
    ask("pia", "deprecate", "fraud-8@2", "--reason", "worse")
    # Nothing is pulled without the gate's key, from somebody else than the server.
    assert "registry.no_gate_key" in ask("rex", "pull", "fraud-8@production", code=2).stderr
    key = ready["gate_key"]
    ask("rex", "pull", "fraud-8@production", "--trust-key", key, "--out", "got.onnx")
    assert (place.root / "got.onnx").read_bytes() == model.read_bytes()
    ask("rex", "pull", "fraud-8@2", "--trust-key", key, "--out", "other.onnx", "--no-trust")
    approver, responder = place.signer("ann", "approver"), place.signer("ben", "responder")
    assert (
        "approved fraud-8@"
        in ask("ida", "approve", "fraud-8@1", "--as", approver, "--reason", "looked at it").stderr
    )
    ask("ida", "revoke", "fraud-8@1", "--as", responder, "--reason", "poisoned")
    denied = ask("rex", "pull", "fraud-8@production", "--trust-key", key, "--out", "no", code=1)
    assert "gate.revoked" in denied.stderr
    assert (
        "registry.not_remote" in ask("pia", "push", model, "--architecture", "a:B", code=2).stderr
    )
    assert place.run("list", "--registry", ready["url"]).returncode == 2
