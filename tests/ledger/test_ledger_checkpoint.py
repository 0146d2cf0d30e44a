"""Checkpoints and proofs: the C2SP texts, exactly, and nothing that only looks like them."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keepstone.errors import InputError, KeepstoneError, VerificationError
from keepstone.identity.signing import Algorithm, SigningKey
from keepstone.ledger import (
    Checkpoint,
    EntryProof,
    Ledger,
    format_vkey,
    parse_checkpoint,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
    verify_proof,
)
from keepstone.ledger.checkpoint import note_key_id, sign_note, strict_b64
from keepstone.ledger.tree import leaf_hash

ORIGIN = "keepstone.test/ledger"
ROOT = leaf_hash(b"root")
# The example of C2SP signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = """This is an example message.

\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""  # noqa: E501 - one line of the specification


@pytest.fixture(scope="module")
def note(key: SigningKey) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), key)


def test_the_specification_s_example_verifies() -> None:
    name, key = parse_vkey(VKEY)
    assert format_vkey(name, key) == VKEY
    # Its text is no checkpoint, so signature and key id are checked and then the text refused.
    with pytest.raises(InputError, match=r"checkpoint\.malformed"):
        verify_checkpoint(NOTE, name, [key])
    with pytest.raises(VerificationError, match=r"checkpoint\.invalid"):
        verify_checkpoint(NOTE.replace("example m", "example n"), name, [key])


def test_a_checkpoint_goes_there_and_back(key: SigningKey, note: str) -> None:
    assert note.startswith(f"{ORIGIN}\n7\n{b64encode(ROOT).decode()}\n\n\u2014 {ORIGIN} ")
    assert verify_checkpoint(note, ORIGIN, [key.verifying]) == Checkpoint(ORIGIN, 7, ROOT)
    assert parse_checkpoint(note) == Checkpoint(ORIGIN, 7, ROOT)


def test_unknown_signatures_are_ignored_and_known_ones_count(key: SigningKey, note: str) -> None:
    stranger = SigningKey.generate(Algorithm.ED25519)
    line = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), stranger).splitlines()[-1]
    both = f"{note}{line}\n"
    assert verify_checkpoint(both, ORIGIN, [key.verifying]).size == 7
    assert verify_checkpoint(both, ORIGIN, [stranger.verifying]).size == 7
    with pytest.raises(VerificationError, match=r"checkpoint\.unsigned"):
        verify_checkpoint(note, ORIGIN, [stranger.verifying])
    with pytest.raises(VerificationError, match=r"checkpoint\.unsigned"):
        verify_checkpoint(note, ORIGIN, [])


def test_a_known_key_whose_signature_fails_rejects_the_whole_note(
    key: SigningKey, note: str
) -> None:
    blob = note_key_id(ORIGIN, key.verifying) + bytes(64)
    forged = f"{note}\u2014 {ORIGIN} {b64encode(blob).decode()}\n"
    with pytest.raises(VerificationError, match=r"checkpoint\.invalid"):
        verify_checkpoint(forged, ORIGIN, [key.verifying])


def test_another_log_s_checkpoint_is_refused(key: SigningKey) -> None:
    text = Checkpoint("other.test/log", 7, ROOT).to_text()
    note = sign_note(text, ORIGIN, key)
    with pytest.raises(VerificationError, match=r"checkpoint\.wrong_origin"):
        verify_checkpoint(note, ORIGIN, [key.verifying])


def test_extension_lines_are_signed_and_ignored(key: SigningKey) -> None:
    note = sign_note(Checkpoint(ORIGIN, 7, ROOT).to_text() + "extension\n", ORIGIN, key)
    assert verify_checkpoint(note, ORIGIN, [key.verifying]).size == 7
    with pytest.raises(VerificationError, match=r"checkpoint\.invalid"):
        verify_checkpoint(note.replace("extension", "extensioN"), ORIGIN, [key.verifying])


ROOT64 = b64encode(ROOT).decode()
SIGNATURE = "\u2014 k AAAAAAAA\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ORIGIN}\n7\n{ROOT64}\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n{SIGNATURE[:-1]}",
        f"{ORIGIN}\n7\n{ROOT64}\n\n- k AAAAAAAA\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\u2014 k AAAAAA==\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\u2014 k AAAAAAA\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\u2014 k  AAAAAAAA\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\u2014  AAAAAAAA\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\u2014 k+k AAAAAAAA\n",
        f"{ORIGIN}\n7\n{ROOT64}\n\n" + SIGNATURE * 65,
        f"{ORIGIN}\n7\n\n{SIGNATURE}",
        f"{ORIGIN}\n07\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n-7\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n+7\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7 \n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n\u0667\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n{'9' * 20}\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64[:-4]}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64[:-1]}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64[:-2]}9=\n\n{SIGNATURE}",
        f"\n7\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64}\n\n\n{SIGNATURE}",
        f"{ORIGIN}\r\n7\n{ROOT64}\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64}\nbad\ud800line\n\n{SIGNATURE}",
        f"{ORIGIN}\n7\n{ROOT64}\n{'x' * 70_000}\n\n{SIGNATURE}",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_checkpoint(text)
    assert refused.value.code == "checkpoint.malformed"


@given(st.text(), st.integers(0, 300))
@example("\ud800", 0)
def test_a_changed_checkpoint_never_verifies(text: str, at: int) -> None:
    key = SigningKey.generate(Algorithm.ED25519)
    note = sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), key)
    changed = note[:at] + text + note[at + len(text) :]
    if changed == note:
        return
    with pytest.raises(KeepstoneError) as refused:
        verify_checkpoint(changed, ORIGIN, [key.verifying])
    assert refused.value.family in ("input", "verification")


@given(st.integers(0, 10**18), st.binary(min_size=32, max_size=32))
def test_any_checkpoint_goes_there_and_back(size: int, root: bytes) -> None:
    key = SigningKey.generate(Algorithm.ED25519)
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert verify_checkpoint(sign_checkpoint(checkpoint, key), ORIGIN, [key.verifying]) == (
        checkpoint
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        VKEY[:-1],
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("example.com/foo", "exa mple"),
        "example.com/foo+530d903a+" + b64encode(b"\x02" + bytes(32)).decode(),
        "example.com/foo+530d903a+" + b64encode(b"\x01" + bytes(31)).decode(),
    ],
)
def test_what_is_no_verifier_key(text: str) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.bad_vkey"):
        parse_vkey(text)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "a\u00a0b", "x" * 256])
def test_what_cannot_name_a_log(origin: str, key: SigningKey) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.bad_origin"):
        sign_checkpoint(Checkpoint(origin, 7, ROOT), key)


def test_only_ed25519_signs_checkpoints() -> None:
    with pytest.raises(InputError, match=r"checkpoint\.bad_key"):
        sign_checkpoint(Checkpoint(ORIGIN, 7, ROOT), SigningKey.generate(Algorithm.P256))


@pytest.mark.parametrize("text", ["A", "AB==", "AAAA\n", "AA-_", "AAAA ", "AAA=A"])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(InputError, match=r"base64\.malformed"):
        strict_b64(text)


# Proofs


@pytest.fixture
def proof(ledger: Ledger, fill: object, body: object) -> EntryProof:
    fill(ledger, 13)  # type: ignore[operator]
    return ledger.prove(5)


def test_a_proof_goes_there_and_back(ledger: Ledger, proof: EntryProof, key: SigningKey) -> None:
    text = proof.to_text()
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 5\n")
    assert EntryProof.parse(text) == proof
    assert verify_proof(text, ledger.body(5), ORIGIN, key.verifying) == proof.checkpoint
    with_extra = EntryProof(proof.index, proof.path, proof.checkpoint_note, b"more")
    assert with_extra.to_text().splitlines()[1] == "extra bW9yZQ=="
    assert EntryProof.parse(with_extra.to_text()) == with_extra
    verify_proof(with_extra.to_text(), ledger.body(5), ORIGIN, key.verifying)


def test_a_proof_of_one_entry_has_an_empty_path(ledger: Ledger, key: SigningKey) -> None:
    ledger.append(b'{"kind":"event","t":1}').wait(5)
    text = ledger.prove(0).to_text()
    assert EntryProof.parse(text).path == ()
    verify_proof(text, ledger.body(0), ORIGIN, key.verifying)


def test_forged_proofs_are_refused(ledger: Ledger, proof: EntryProof, key: SigningKey) -> None:
    text, body = proof.to_text(), ledger.body(5)
    stranger = SigningKey.generate(Algorithm.ED25519)
    resigned = sign_checkpoint(proof.checkpoint, stranger)
    attacks = [
        (text, ledger.body(6), ORIGIN, key, "proof.invalid"),
        (text.replace("index 5", "index 6"), body, ORIGIN, key, "proof.invalid"),
        (text.replace("index 5", "index 13"), body, ORIGIN, key, "proof.invalid"),
        (text, body, "other.test/log", key, "checkpoint.unsigned"),
        (text, body, ORIGIN, stranger, "checkpoint.unsigned"),
        (
            EntryProof(5, proof.path, resigned).to_text(),
            body,
            ORIGIN,
            key,
            "checkpoint.unsigned",
        ),
        (text.replace("\n13\n", "\n14\n"), body, ORIGIN, key, "checkpoint.invalid"),
    ]
    for forged, claimed, origin, signer, code in attacks:
        with pytest.raises(VerificationError) as refused:
            verify_proof(forged, claimed, origin, signer.verifying)
        assert refused.value.code == code


def test_what_is_no_proof(proof: EntryProof) -> None:
    text = proof.to_text()
    line = b64encode(bytes(32)).decode()
    broken = [
        "",
        text.replace("@v1", "@v2"),
        text.replace("index 5\n", ""),
        text.replace("index 5", "index 05"),
        text.replace("index 5", "index -5"),
        text.replace("index 5", "extra !\nindex 5"),
        text.replace("index 5", "index 5\nextra AAAA"),
        text.replace("index 5", "extra AAAA\nextra AAAA\nindex 5"),
        text.replace("index 5", f"index 5\n{line[:-1]}"),
        text.replace("index 5", "index 5\nAAAA"),
        text.replace("index 5", "index 5" + f"\n{line}" * 62),
        text.replace("index 5\n", "index 5\n\n"),
        text + "x" * 300_000,
        text[:-1],
        "c2sp.org/tlog-proof@v1\n\n" + proof.checkpoint_note,
        text.partition("\n\n")[0],
    ]
    for item in broken:
        with pytest.raises(InputError) as refused:
            EntryProof.parse(item)
        assert refused.value.code == "proof.malformed"


@given(st.text())
def test_no_text_crashes_the_proof_parser(text: str) -> None:
    for candidate in (text, "c2sp.org/tlog-proof@v1\n" + text):
        with pytest.raises(InputError, match=r"proof\.malformed"):
            EntryProof.parse(candidate)


def test_a_proof_outlives_the_ledger(
    path: Path, ledger: Ledger, proof: EntryProof, key: SigningKey, fill: object
) -> None:
    body = ledger.body(5)
    fill(ledger, 300)  # type: ignore[operator]
    again = ledger.prove(5)
    assert again.checkpoint.size == 13, "a stored checkpoint that reaches the entry is re-used"
    verify_proof(proof.to_text(), body, ORIGIN, key.verifying)
