"""Each command's exit status and error code, the same in every output format."""

from __future__ import annotations

import io
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.cli.main import run
from keepstone.core.digest import Digest
from keepstone.evidence.dsse import Envelope
from keepstone.identity.signing import SigningKey, write_secret_file
from keepstone.ledger import LedgerReader

Result = tuple[int, str, str]


class Shell:
    """A folder, and the command line run in it, in this process."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.workspace = root / "ws"
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        """The exit status, stdout, and the error's code or what stderr says."""
        self._capsys.readouterr()
        status = run([str(each) for each in arguments])
        said = self._capsys.readouterr()
        code = said.err.partition("error[")[2].partition("]")[0]
        return status, said.out, code or said.err

    def refused(self, *arguments: object) -> str:
        """`code/status`, and nothing on stdout that could pass for a result."""
        status, out, code = self(*arguments)
        assert out == ""
        return f"{code}/{status}"

    def must(self, *arguments: object) -> str:
        status, out, told = self(*arguments)
        assert status == 0, told
        return out

    def json(self, *arguments: object, status: int = 0) -> Any:
        given, out, told = self(*arguments, "--format", "json")
        assert given == status, told
        document = json.loads(out)
        assert document["schema"].startswith("keepstone.")
        return document

    def signer(self, name: str, role: str | None = None) -> Path:
        path = self.root / f"{name}.pem"
        public = self.must("signers", "create", "--out", path).strip()
        if role is not None:
            self.must("signers", "add", name, public, "--role", role)
        return path


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEEPSTONE_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("KEEPSTONE_OUTSIDE", str(tmp_path / "outside"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("KEEPSTONE_PASSPHRASE", raising=False)
    return Shell(tmp_path, capsys)


@pytest.fixture
def made(shell: Shell) -> Shell:
    """With a workspace."""
    shell.must("init")
    return shell


@pytest.fixture
def digest() -> str:
    """Of an artifact that nobody has seen."""
    return str(Digest("ab" * 32))


# init


def test_init_makes_one_and_not_two(shell: Shell) -> None:
    status, out, told = shell("init", "--host", "models.example")
    assert (status, out) == (0, "")
    assert "not under a passphrase" in told
    assert shell.refused("init") == "workspace.exists/2"
    assert shell.refused("init", "-w", "other", "--host", "not a host") == "tls.bad_host/2"
    assert not (shell.root / "other").exists()


# Every command that needs a workspace, where there is none

NEEDS = [
    ("approve", "m", "--as", "k.pem", "--reason", "r"),
    ("revoke", "m", "--as", "k.pem", "--reason", "r"),
    ("reinstate", "m", "--as", "k.pem", "--reason", "r"),
    ("policy", "explain", "m"),
    ("policy", "explain", "user:a", "--action", "model.predict"),
    ("policy", "explain", "m", "--format", "json"),
    ("signers", "add", "a", "k.pub.pem", "--role", "approver"),
    ("signers", "list"),
    ("signers", "list", "--format", "json"),
    ("keys", "create", "user:a"),
    ("keys", "list"),
    ("keys", "list", "--format", "json"),
    ("keys", "rotate", "a"),
    ("keys", "revoke", "a"),
    ("token", "user:a"),
    ("token", "user:a", "--format", "json"),
    ("ledger", "tail"),
    ("ledger", "show", "0"),
    ("ledger", "prove", "0"),
    ("ledger", "verify"),
    ("ledger", "verify", "--format", "json"),
    ("ledger", "checkpoint"),
    ("ledger", "forget", "2026-11", "--yes"),
    ("backup", "x.tar"),
    ("trust", "export", "--out", "x.trust"),
]


@pytest.mark.parametrize("command", NEEDS, ids=" ".join)
@pytest.mark.parametrize("identity", ["missing", "newer", "malformed"])
def test_without_a_workspace_of_ours_a_command_says_so(
    shell: Shell, command: tuple[str, ...], identity: str
) -> None:
    key = SigningKey.generate()
    write_secret_file(shell.root / "k.pem", key.to_pem())
    (shell.root / "k.pub.pem").write_bytes(key.verifying.pem)
    if identity != "missing":
        shell.workspace.mkdir()
        text = {"newer": '{"schema":"keepstone.workspace/v2"}', "malformed": "{"}[identity]
        (shell.workspace / "workspace.json").write_text(text)
    named = "newer_version" if identity == "newer" else identity
    before = sorted(shell.root.rglob("*"))

    assert shell.refused(*command) == f"workspace.{named}/2"
    assert sorted(shell.root.rglob("*")) == before


@pytest.mark.parametrize("command", [("policy", "check"), ("policy", "show")])
def test_without_a_policy_file_the_policy_commands_say_so(
    shell: Shell, command: tuple[str, ...]
) -> None:
    assert shell.refused(*command) == "policy.missing/2"


# scan


def test_scan_answers_by_what_it_found_whatever_the_format(shell: Shell) -> None:
    evil, text, junk = (shell.root / name for name in ("evil.pkl", "a.txt", "a.bin"))
    evil.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    text.write_text("hello")
    junk.write_bytes(b"\x00\x01\x02")
    for style in ("text", "json", "sarif"):
        assert shell("scan", evil, "--format", style)[0] == 1
        assert shell("scan", text, "--format", style)[0] == 0
        assert shell("scan", junk, text, "--format", style)[0] == 3
        # A no wins over a don't know.
        assert shell("scan", text, junk, evil, "--format", style)[0] == 1
        assert shell.refused("scan", shell.root / "none", "--format", style) == "scan.missing/2"
    (found,) = shell.json("scan", evil, status=1)["files"]
    assert found["verdict"] == "flagged"
    assert found.keys() == {"path", "sha256", "format", "verdict", "findings", "smells"}


def test_scan_leaves_out_what_it_is_told_to(shell: Shell) -> None:
    folder = shell.root / "folder"
    folder.mkdir()
    (folder / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (folder / "a.txt").write_text("hello")
    assert shell("scan", folder)[0] == 1
    assert shell("scan", folder, "--exclude", "*.pkl")[0] == 0


def test_scan_wants_something_to_scan(shell: Shell) -> None:
    assert shell("scan")[0] == 2


def test_scan_looks_into_the_vault(made: Shell) -> None:
    # Nothing is sealed yet: nothing looked at is not clean.
    assert made("scan", "--vault")[0] == 3
    assert made.refused("scan", "--vault", "nobody") == "scan.missing/2"


# sign and verify


def test_incremental_answers_are_documents_of_their_own(shell: Shell) -> None:
    model = shell.root / "model"
    model.mkdir()
    (model / "a").write_bytes(b"weights")
    key = shell.signer("alice")
    public, sig = key.with_suffix(".pub.pem"), shell.root / "model.sig"
    signed = shell.json("sign", model, "--private-key", key, "--incremental")
    assert (signed["schema"], signed["unchanged_by_metadata"]) == ("keepstone.sign/v1", [])
    check = ("verify", model, "--public-key", public, "--signature", sig, "--incremental")
    found = shell.json(*check)
    assert found["schema"] == "keepstone.verify-incremental/v1"
    # Nothing in it reads like the answer of a full verification, and a fresh file was read.
    assert "verified" not in found
    assert (found["unchanged_by_metadata"], len(found["files"])) == (0, 1)
    assert "unchanged by metadata" in shell(*check)[2]
    (model / "a").write_bytes(b"weightz")
    for style in ("text", "json"):
        assert shell.refused(*check, "--format", style) == "model.mismatch/1"
    (cache,) = (shell.root / "outside" / "hashes").glob("*.cache")
    cache.write_bytes(cache.read_bytes() + b" ")
    assert shell.refused(*check) == "hashcache.tampered/1"
    both = ("sign", model, "--private-key", key, "--shards", "--incremental")
    assert shell(*both)[0] == 2


def test_a_sharded_signature_verifies(shell: Shell) -> None:
    model = shell.root / "model"
    model.mkdir()
    (model / "a").write_bytes(bytes(5 << 20))
    (model / "b").touch()
    key = shell.signer("alice")
    public, sig = key.with_suffix(".pub.pem"), shell.root / "model.sig"
    signed = shell.json("sign", model, "--private-key", key, "--shards")
    assert signed.keys() == {"schema", "signature", "key_id"}
    found = shell.json("verify", model, "--public-key", public, "--signature", sig)
    assert found["unsigned"] == ["b"]
    assert sorted(found["files"][0]) == ["path", "sha256-sharded-4194304", "size"]
    assert found["files"][1] == {"path": "b", "size": 0}


def test_sign_and_verify_hold_each_other(shell: Shell) -> None:
    model = shell.root / "model.bin"
    model.write_bytes(b"weights")
    key, other = shell.signer("alice"), shell.signer("bob")
    public, wrong = (each.with_suffix(".pub.pem") for each in (key, other))
    sig = shell.root / "model.bin.sig"
    shell.must("sign", model, "--private-key", key)
    check = ("verify", model, "--public-key", public, "--signature", sig)
    shell.must(*check)
    assert shell.json(*check)["key_id"] == shell.json(*check)["key_id"]
    assert shell.json(*check)["verified"] is True
    for style in ("text", "json"):
        fake = ("verify", model, "--public-key", wrong, "--signature", sig, "--format", style)
        assert shell.refused(*fake).endswith("/1")
        model.write_bytes(b"weightz")
        assert shell.refused(*check, "--format", style).endswith("/1")
        model.write_bytes(b"weights")
        sig_none = ("verify", model, "--public-key", public, "--signature", "none")
        assert shell.refused(*sig_none, "--format", style) == "signature.missing/2"
    no_key = ("verify", model, "--public-key", "none", "--signature", sig)
    assert shell.refused(*no_key) == "key.missing/2"
    assert shell.refused("sign", "none.bin", "--private-key", key).endswith("/2")
    key.chmod(0o644)
    assert shell.refused("sign", model, "--private-key", key) == "key.open_permissions/3"


# signers


def test_a_signers_key_is_private_and_written_once(shell: Shell) -> None:
    key = shell.signer("alice")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert shell.refused("signers", "create", "--out", key) == "file.exists/2"
    assert key.read_bytes() == before
    assert shell.refused("signers", "create", "--out", "no/where.pem").endswith(("/2", "/3"))


def test_signers_are_added_and_listed(made: Shell) -> None:
    key = made.signer("alice", "approver")
    public = key.with_suffix(".pub.pem")
    assert made.refused("signers", "add", "a", public, "--role", "emperor") == "policy.invalid/2"
    assert made.refused("signers", "add", "a", key, "--role", "approver") == "key.malformed/2"
    assert made.refused("signers", "add", "a", "none", "--role", "approver") == "key.missing/2"
    listed = made.json("signers", "list")["signers"]
    assert "alice" in [each["name"] for each in listed]
    assert "alice" in made.must("signers", "list")


# approve, revoke, reinstate


def test_people_say_what_their_role_lets_them(made: Shell, digest: str) -> None:
    responder, other = made.signer("carol", "responder"), made.signer("dave", "reinstater")
    stranger = made.signer("mallory")
    why = ("--reason", "why")
    revoke = ("revoke", digest, *why, "--as")
    assert made.refused(*revoke, stranger) == "signature.unknown_key/1"
    assert made.refused(*revoke, other) == "statement.no_right/1"
    assert made.refused(*revoke, "none.pem") == "key.missing/2"
    assert made.refused("revoke", "nothing", *why, "--as", responder) == "model.unknown/2"
    assert made.refused("approve", digest, *why, "--as", responder) == "model.unknown/2"
    reinstate = ("reinstate", digest, *why, "--as")
    assert made.refused(*reinstate, other) == "model.not_revoked/2"
    made.must(*revoke, responder)
    assert made.refused(*reinstate, responder) == "statement.no_right/1"
    made.must(*reinstate, other)
    assert made.refused(*reinstate, other) == "model.not_revoked/2"
    responder.chmod(0o640)
    assert made.refused(*revoke, responder) == "key.open_permissions/3"


def test_an_encrypted_signers_key_needs_its_passphrase(
    made: Shell, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SigningKey.generate()
    write_secret_file(made.root / "locked.pem", key.to_pem(b"correct horse"))
    (made.root / "locked.pub.pem").write_bytes(key.verifying.pem)
    made.must("signers", "add", "erin", made.root / "locked.pub.pem", "--role", "responder")
    revoke = ("revoke", digest, "--reason", "why", "--as", made.root / "locked.pem")
    assert made.refused(*revoke) == "key.passphrase/2"
    monkeypatch.setenv("KEEPSTONE_PASSPHRASE", "wrong")
    assert made.refused(*revoke) == "key.malformed/2"


def test_a_statement_and_a_key_are_revoked_by_name(made: Shell, digest: str) -> None:
    key = made.signer("carol", "responder")
    target = ("--as", key, "--reason", "why", "--kind")
    assert made.refused("revoke", "ks-0", *target, "statement") == "entry.bad_id/2"
    assert made.refused("revoke", "short", *target, "key") == "digest.malformed/2"
    made.must("revoke", digest, *target, "statement")
    made.must("revoke", "cd" * 32, *target, "key")


# policy


def test_a_policy_is_checked_shown_and_explained(made: Shell) -> None:
    made.must("policy", "check")
    assert made.json("policy", "check")["profile"] == "local"
    policy = made.workspace / "policy.toml"
    assert made.must("policy", "show") == policy.read_text()
    assert "permit" in made.must("policy", "show", "--cedar")
    assert 'profile = "production"' in made.must("policy", "show", "--profile", "production")
    assert "permit" in made.must("policy", "show", "--profile", "production", "--cedar")
    for style in ("text", "json"):
        ask = ("policy", "explain", "user:a", "--action", "model.predict", "--format", style)
        assert made(*ask)[0] == 1
        assert made.refused("policy", "explain", "none", "--format", style) == "model.unknown/2"
        policy_break = policy.read_bytes()
        policy.write_bytes(policy_break + b"\n[nonsense]\n")
        assert made.refused("policy", "check", "--format", style) == "policy.invalid/2"
        policy.write_bytes(policy_break)
    policy.write_text("not toml [")
    for command in (("policy", "check"), ("policy", "show"), ("keys", "list"), ("signers", "list")):
        assert made.refused(*command) == "policy.malformed/2"


# keys and tokens


def test_keys_are_made_listed_rotated_and_revoked(made: Shell) -> None:
    made_key = made.json("keys", "create", "user:eve", "--model", "m", "--lifetime", "1h")
    assert made_key["grants"] == [{"role": "caller", "models": ["m"]}]
    assert made.must("keys", "rotate", made_key["key_id"]).startswith("ks_")
    assert made_key["key_id"] in made.must("keys", "list")
    made.must("keys", "revoke", made_key["key_id"])
    (listed,) = made.json("keys", "list")["keys"]
    assert listed["state"] == "revoked"
    for style in ("text", "json"):
        create = ("keys", "create", "user:eve", "--format", style)
        assert made.refused(*create, "--role", "emperor") == "role.unknown/2"
        assert made.refused(*create, "--lifetime", "91d") == "apikeys.lifetime/2"
        assert made.refused("keys", "create", "eve", "--format", style) == "principal.invalid/2"
        rotate = ("keys", "rotate", made_key["key_id"], "--format", style)
        assert made.refused(*rotate) == "apikeys.not_live/1"
        token = ("token", "user:eve", "--format", style)
        assert made.refused(*token, "--lifetime", "2h") == "token.lifetime/2"
    assert made.refused("keys", "revoke", "nobody") == "apikeys.unknown/2"
    assert made.must("token", "user:eve").count(".") == 2
    assert made.json("token", "user:eve", "--lifetime", "60s")["token"].count(".") == 2


# ledger


def test_the_ledger_is_read_proved_and_verified(made: Shell) -> None:
    assert made.must("ledger", "tail").count("\n") == 1
    (entry,) = made.json("ledger", "tail", "-n", "5")["entries"]
    shown = json.loads(made.must("ledger", "show", entry["id"]))
    assert shown["entry"]["event"] == "workspace.created"
    assert made.refused("ledger", "show", "99") == "ledger.no_such_entry/2"
    assert made.refused("ledger", "show", "nonsense") == "entry.bad_id/2"
    made.must("ledger", "prove", entry["id"], "--out", made.root / "p")
    assert stat.S_IMODE((made.root / "p").stat().st_mode) == 0o600
    vkey = made.json("ledger", "checkpoint")["vkey"]
    offline = ("ledger", "verify", "--proof", made.root / "p", "--vkey", vkey)
    assert entry["id"] in made.must(*offline)
    assert made.json(*offline)["id"] == entry["id"]
    assert made.refused("ledger", "verify", "--proof", made.root / "p") == "usage.vkey/2"
    assert (
        made.refused("ledger", "verify", "--proof", "none", "--vkey", vkey) == "file.unreadable/2"
    )
    (made.root / "in").write_text("x")
    held = ("ledger", "prove", entry["id"], "--input", made.root / "in")
    assert made.refused(*held) == "entry.not_a_prediction/2"
    text = (made.root / "p").read_text()
    (made.root / "p").write_text(text.replace("\n1\n", "\n2\n"))
    assert made.refused(*offline).endswith("/1")
    (made.root / "p").write_text("nonsense")
    assert made.refused(*offline).endswith("/2")


@pytest.mark.parametrize("style", ["text", "json"])
def test_verify_ends_by_what_it_found(made: Shell, style: str) -> None:
    ledger = made.workspace / "ledger" / "ledger.db"
    verify = ("ledger", "verify", "--format", style)
    strict = (*verify, "--require-outside")
    assert made(*verify)[0] == 0
    assert made(*strict)[0] == 3
    fresh = ledger.read_bytes()
    made.must("ledger", "checkpoint")
    assert (made(*verify)[0], made(*strict)[0]) == (0, 0)
    made.must("keys", "list")
    made.must("keys", "create", "user:a")
    good = ledger.read_bytes()
    ledger.write_bytes(good.replace(b"workspace.created", b"workspace.creared"))
    assert (made(*verify)[0], made(*strict)[0]) == (1, 1)
    ledger.write_bytes(fresh)
    status, out, _ = made(*verify)
    assert (status, "rolled_back" in out) == (1, True)
    ledger.write_bytes(b"nonsense" * 1000)
    assert made(*verify)[0] in (1, 3)
    assert made(*verify)[0] != 0
    ledger.write_bytes(good)
    (outside,) = (made.root / "outside").iterdir()
    outside.write_text("nonsense")
    status, out, _ = made(*verify)
    assert (status, "not_evaluated" in out) == (3, True)
    ledger.unlink()
    assert made.refused(*verify) == "ledger.missing/2"


def test_a_month_is_forgotten_only_when_asked_for_twice(
    made: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert made.refused("ledger", "forget", "1999-01", "--yes") == "audit.unknown_period/2"
    for answer, status in (("", 130), ("n\n", 130), ("y\n", 2)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert made("ledger", "forget", "1999-01")[0] == status


# doctor, backup, restore


def test_doctor_ends_with_1_where_something_fails(made: Shell) -> None:
    assert made("doctor")[0] == 0
    assert {each["state"] for each in made.json("doctor")["checks"]} <= {"ok", "warn"}
    (made.workspace / "keys" / "gate.pem").chmod(0o644)
    assert made("doctor")[0] == 1
    found = made.json("doctor", status=1)["checks"]
    assert any("chmod 600" in each["mend"] for each in found if each["state"] == "fail")
    assert made("doctor", "-w", "none")[0] == 1


def test_a_backup_is_written_and_restored(made: Shell) -> None:
    made.must("backup", "k.tar")
    assert made.refused("backup", "k.tar") == "file.exists/2"
    assert made.refused("restore", "k.tar") == "workspace.exists/2"
    assert made.refused("restore", "none.tar", "-w", "again") == "backup.missing/2"
    (made.root / "bad.tar").write_text("nonsense")
    assert made.refused("restore", "bad.tar", "-w", "again") == "backup.malformed/2"
    made.must("keys", "create", "user:a")
    shutil.rmtree(made.workspace)
    assert made.refused("restore", "k.tar") == "backup.outdated/1"
    assert made.refused("restore", "k.tar", "--unsafe-rollback", " ") == "backup.no_reason/2"
    made.must("restore", "k.tar", "--unsafe-rollback", "the disk died")
    made.must("keys", "list")
    assert "the disk died" in made.must("ledger", "tail")


# up, as far as it goes without serving


@pytest.mark.loopback
@pytest.mark.parametrize("path", ["/", ".", "..", "none.onnx", ""])
def test_up_of_what_is_no_model_says_so(shell: Shell, path: str) -> None:
    shell.must("init")
    status, _, code = shell("up", path, "--port", "0")
    assert (status, code.partition(".")[0]) in ((2, "model"), (3, "model")), code


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--unsafe-plain-http", " "), "serve.no_reason/2"),
        (("--unsafe-plain-http", "r", "--host", "0.0.0.0"), "serve.plain_http/2"),
        (("--unsafe-plain-http", "r", "--host", "example.com"), "serve.plain_http/2"),
        (("--name", "../x"), "name.invalid/2"),
    ],
)
def test_up_with_unsafe_or_wrong_options_does_nothing(
    shell: Shell, options: tuple[str, ...], expected: str
) -> None:
    assert shell.refused("up", "m.onnx", *options) == expected
    assert not shell.workspace.exists()


def test_what_a_command_said_is_on_the_record(made: Shell, digest: str) -> None:
    key = made.signer("carol", "responder")
    made.must("revoke", digest, "--as", key, "--reason", "why")
    with LedgerReader.open(made.workspace / "ledger" / "ledger.db") as reader:
        (body,) = [body for _, body in reader.indexed("statement")]
    envelope = Envelope.from_dict(json.loads(body)["envelope"])
    assert b"why" in envelope.payload


def test_no_secret_is_printed_twice(made: Shell, error_code: Callable[[Any], str]) -> None:
    secret = made.json("keys", "create", "user:a")["key"]
    said = [made("keys", "list"), made("ledger", "tail"), made("doctor"), made("policy", "check")]
    assert not [each for each in said if secret[16:] in each[1] + each[2]]


def test_a_key_goes_into_a_file_of_its_own(place: Any) -> None:
    place.must("init")
    done = place.must("keys", "create", "user:alice", "--out", "alice.key")
    assert done.stdout.strip() == "alice.key"
    path = place.root / "alice.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("ks_")
    assert path.read_text().strip() not in done.stdout + done.stderr
    assert place.run("keys", "create", "user:bob", "--out", "alice.key").returncode == 2
    assert [one["principal"] for one in place.json("keys", "list")["keys"]] == ["user:alice"]
