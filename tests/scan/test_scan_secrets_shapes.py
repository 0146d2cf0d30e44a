"""Known tokens and keys: found with a right checksum, left alone with a wrong one."""

from __future__ import annotations

import json
import random
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from bench.planted.values import ALNUM, FAMILIES, HEX, Family, some
from keepstone.scan.secrets.checks import is_bech32, is_placeholder
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.passage import Passage
from keepstone.scan.secrets.shapes import SHAPES
from keepstone.vault.keks.file import create_kek

KINDS = {
    "aws id": "AWS access key id",
    "github": "GitHub token",
    "github server": "GitHub token",
    "github fine-grained": "GitHub fine-grained token",
    "gitlab": "GitLab token",
    "npm": "npm token",
    "pypi": "PyPI token",
    "hugging face": "Hugging Face token",
    "openai": "OpenAI key",
    "anthropic": "Anthropic key",
    "google api": "Google API key",
    "google client": "Google client secret",
    "service account": "Google service account key",
    "azure storage": "Azure storage or service key",
    "azure sas": "Azure shared access signature",
    "azure client": "Azure client secret",
    "slack": "Slack token",
    "slack webhook": "Slack webhook",
    "stripe": "Stripe key",
    "sendgrid": "SendGrid key",
    "telegram": "Telegram bot token",
    "discord": "Discord bot token",
    "digitalocean": "DigitalOcean token",
    "databricks": "Databricks token",
    "neptune": "Neptune token",
    "jwt": "JSON Web Token",
    "pem": "private key (PEM)",
    "sec1": "private key (PEM)",
    "locked pem": "private key (PEM)",
    "openssh": "OpenSSH private key",
    "putty": "PuTTY private key",
    "pgp": "PGP private key",
    "minisign": "minisign secret key",
    "age": "age secret key",
    "keepstone": "Keepstone API key",
    "netrc": "netrc password",
    "docker": "Docker registry login",
    "kubernetes": "Kubernetes secret",
    "address": "password in an address",
    "basic": "basic authentication",
}
BY_KIND = {family.kind: family for family in FAMILIES}
# The last letter, or one in the middle, is part of a checksum or of a structure.
CHECKED = ("github", "github server", "npm", "keepstone", "age")


def hits(text: str, name: str = "x.txt") -> list[Hit]:
    return Passage(text, name).hits()


def made(kind: str, seed: int = 5) -> str:
    return BY_KIND[kind].make(random.Random(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_each_family_is_told_by_its_kind(kind: str, seed: int) -> None:
    found = hits(f"first line\nx {made(kind, seed)}\nlast line")
    assert KINDS[kind] in [hit.kind for hit in found]


def test_a_pair_of_aws_is_two_findings() -> None:
    found = [hit.kind for hit in hits(made("aws pair"))]
    assert found == ["AWS access key id", "AWS secret access key"]


@pytest.mark.parametrize("kind", CHECKED)
def test_a_wrong_checksum_is_no_finding(kind: str) -> None:
    token = made(kind)
    for at in (len(token) - 1, len(token) - 12):
        changed = "Q" if token[at] != "Q" else "P"
        assert not hits(f"x {token[:at]}{changed}{token[at + 1 :]} y")


def test_a_wrong_structure_is_no_finding() -> None:
    source = random.Random(1)
    pypi = made("pypi")
    assert not hits(f"x {pypi[:-8]} y"), "cut short"
    assert not hits("x pypi-AgE" + some(source, ALNUM, 120)), "no macaroon"
    key = BY_KIND["azure storage"].make(source)
    kinds = [hit.kind for hit in hits(key.replace("==", "") + ";")]
    assert KINDS["azure storage"] not in kinds, "not 64 bytes"
    head, body, mark = made("jwt").split(".")
    unsigned = urlsafe_b64encode(b'{"alg": "none"}').rstrip(b"=").decode()
    assert not hits(f"x {unsigned}.{body}.{mark}"), "whoever likes makes one"
    assert not hits(f"x {head[:-4]}.{body}.{mark}"), "no header"
    discord = made("discord")
    assert not hits("x M" + some(source, ALNUM, 23) + discord[24:]), "no account"


def test_an_expired_web_token_is_told_as_one_and_still_found() -> None:
    (hit,) = hits(made("jwt"))
    assert "It ends on 20" in hit.note
    assert "HS256" in hit.note


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not BY_KIND[kind].whole])
def test_a_part_of_a_longer_word_is_no_token(kind: str) -> None:
    token = made(kind)
    if kind in ("azure storage", "azure sas", "slack webhook", "address", "basic", "telegram"):
        return
    assert not [hit for hit in hits(f"Qx{token}") if hit.rule == "secret.token"]


def test_a_line_end_before_a_token_is_no_letter_of_it() -> None:
    token = made("github")
    assert hits(f'"first\\n{token}"')
    assert hits(f"https://x.net/?next=%3D{token}")


def test_vendors_examples_are_left_alone() -> None:
    source = random.Random(2)
    mark = "EXAMPLE"
    examples = [
        "AKIA" + "IOSFODNN7" + mark,
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + mark + "KEY",
        "gh" + "p_" + "x" * 36,
        "AI" + "za" + "X" * 35,
        "sk_" + "live_" + "0" * 24,
        "hf_" + "a" * 34,
        "xoxb-123456789012-123456789012-abcdefghijklmnopqrstuvwx",
        "glpat-" + "abcdefghijklmnopqrst",
    ]
    for text in examples:
        assert not hits(text), text
    assert hits("AK" + "IA" + some(source, "ABCDEFGHIJKLMNOP", 16))


def test_placeholders_are_told_from_what_is_random() -> None:
    source = random.Random(3)
    assert not any(is_placeholder(some(source, ALNUM, 24)) for _ in range(500))
    assert not any(is_placeholder(some(source, HEX, 40)) for _ in range(500))


def test_keys_say_whether_a_passphrase_protects_them() -> None:
    rules = {kind: {hit.rule for hit in hits(made(kind))} for kind in KINDS}
    assert rules["locked pem"] == rules["minisign"] == {"secret.encrypted_key"}
    for kind in ("pem", "sec1", "openssh", "putty", "pgp", "age"):
        assert rules[kind] == {"secret.private_key"}, kind


def test_a_locked_openssh_and_pgp_key_is_told() -> None:
    noise = random.Random(4).randbytes(120)
    for cipher, rule in (b"none", "secret.private_key"), (b"aes256-ctr", "secret.encrypted_key"):
        data = b"openssh-key-v1\0" + len(cipher).to_bytes(4, "big") + cipher + noise
        (hit,) = hits(_block("OPENSSH PRIVATE KEY", data))
        assert hit.rule == rule
    # RFC 9580 5.5.3: RSA's two numbers, then how the secret is protected.
    for usage, rule in (0, "secret.private_key"), (254, "secret.encrypted_key"):
        numbers = (64).to_bytes(2, "big") + bytes(range(8)) + (17).to_bytes(2, "big") + b"\1\0\1"
        body = b"\x04time\x01" + numbers + bytes([usage]) + noise
        (hit,) = hits(_block("PGP PRIVATE KEY BLOCK", bytes([0xC5, len(body)]) + body))
        assert hit.rule == rule


def _block(label: str, data: bytes) -> str:
    dashes = "-" * 5
    text = b64encode(data).decode()
    return f"{dashes}BEGIN {label}{dashes}\n{text}\n{dashes}END {label}{dashes}\n"


def test_a_workspaces_key_and_cosigns(tmp_path: Path) -> None:
    create_kek(tmp_path / "open.json")
    (hit,) = hits((tmp_path / "open.json").read_text())
    assert (hit.rule, hit.kind) == ("secret.private_key", "Keepstone key-encryption key")
    sealed = json.dumps({"kdf": {"name": "scrypt"}, "ciphertext": "x" * 90}).encode()
    (hit,) = hits(_block("ENCRYPTED SIGSTORE PRIVATE KEY", sealed))
    assert (hit.rule, hit.kind) == ("secret.encrypted_key", "cosign private key")


def test_what_only_says_that_it_is_a_key_is_none() -> None:
    line = "-----BEGIN {0}PRIVATE KEY-----"
    for body in ("...", "MIIEvQ", "<your key>", "MII...snip..." * 20):
        text = f"{line.format('')}\n{body}\n{line.format('').replace('BEGIN', 'END')}\n"
        assert not hits(text), body
    assert not hits(f'if text.startswith("{line.format("RSA ")}"): pass')


def test_a_key_without_its_last_line_or_within_source_is_one() -> None:
    pem = made("pem")
    assert hits(pem[: pem.index("-----END")])
    lines = pem.splitlines()
    source = "KEY = (" + "\n    ".join(f"'{line}\\n'" for line in lines) + ")"
    assert [hit.rule for hit in hits(source)] == ["secret.private_key"]
    plus = "String k =\n" + " +\n".join(f'  "{line}\\n"' for line in lines) + ";"
    assert [hit.rule for hit in hits(plus)] == ["secret.private_key"]


def test_bech32_knows_its_checksum() -> None:
    # BIP 173's own vectors.
    assert is_bech32("A12UEL5L")
    assert not is_bech32("A12UEL5M")


def test_every_shape_is_bounded() -> None:
    for shape in SHAPES:
        text = shape.pattern.pattern
        assert not any(open_end in text for open_end in ("*", "+)", "+?", "]+[", ",}")), shape.kind


def _families() -> list[Family]:
    return [family for family in FAMILIES if family.kind in KINDS]


def test_the_corpus_and_the_table_know_the_same_families() -> None:
    assert len(_families()) == len(KINDS)
