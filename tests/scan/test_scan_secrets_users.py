"""Who logs in: never told, and a secret of its own where a token stands in a user's place."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from dataclasses import asdict

import pytest

from keepstone.scan.secrets.baseline import write_baseline
from keepstone.scan.secrets.found import SecretFinding
from keepstone.scan.secrets.look import find_secrets

# Made up, in the form of what services took before their tokens had a prefix.
TOKEN = random.Random(9).randbytes(20).hex()
BESIDE = "x-oauth-basic"
PLACE = "token in a user's place"
WORD = "Vel" + "vet_Harbor83!"
LINES = {
    "address": f"git clone https://{TOKEN}:{BESIDE}@github.com/o/r",
    "curl": f"curl -u {TOKEN}:{BESIDE}9 https://api.example.org",
    "curl without a password": f"curl -u {TOKEN}: https://api.example.org",
    "address without a password": f"https://{TOKEN}:@git.example.org/o/r",
    "address of a user alone": f"git clone https://{TOKEN}@git.example.org/o/r",
    "netrc": f"machine github.com login {TOKEN} password {BESIDE}",
}


def found(text: str) -> list[SecretFinding]:
    return list(find_secrets(text.encode(), "x.sh"))


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_token_in_a_users_place_is_found_and_never_told(line: str) -> None:
    items = found(line)
    assert [item.kind for item in items if item.kind == PLACE] == [PLACE]
    told = json.dumps([asdict(item) for item in items], default=str)
    told += write_baseline(items).decode()
    assert not any(TOKEN[at : at + 8] in told for at in range(len(TOKEN) - 8))


@pytest.mark.parametrize("user", ["ann", "ann.of.the.harbour", "svc-reports-2024-production"])
def test_a_user_is_no_secret_and_is_not_told_either(user: str) -> None:
    for line in (f"https://{user}:{WORD}@db.example.org/x", f"curl --user {user}:{WORD} x"):
        (item,) = found(line)
        assert item.finding.message.endswith(", given to a user.")
        assert user not in f"{item!r}"


def test_nobody_can_guess_a_user_from_a_fingerprint() -> None:
    prints = {
        found(f"https://{user}:{WORD}@db.example.org/x")[0].fingerprint
        for user in ("ann", "bob", "carol")
    }
    assert len(prints) == 1
    tokens = {
        next(item.fingerprint for item in found(LINES["curl"].replace(TOKEN, token)))
        for token in (TOKEN, TOKEN[::-1])
    }
    assert len(tokens) == 1


def test_a_longer_user_hides_no_password() -> None:
    (item,) = found(f"https://{'ab.' * 50}x:{WORD}@db.example.org/x")
    assert item.kind == "password in an address"


def test_a_token_before_a_plain_word_in_a_basic_header() -> None:
    header = b64encode(f"{TOKEN}:x".encode()).decode()
    assert [item.kind for item in found(f"Authorization: Basic {header}")] == [
        "basic authentication"
    ]


def test_what_is_put_there_later_is_left_alone() -> None:
    for line in (
        f"https://${{GIT_USER_TOKEN_OF_CI_2}}:{BESIDE}@github.com",
        "curl -u $GITHUB_TOKEN_V2_FOR_CI: x",
    ):
        assert not [item for item in found(line) if item.kind == PLACE]


def test_the_public_key_of_an_address_for_errors_is_none() -> None:
    key = random.Random(10).randbytes(16).hex()
    assert not found(f"https://{key}@errors.example.org/42")
    assert found(f"https://{key}@errors.example.org/o/r")


@pytest.mark.parametrize("name", [f"{TOKEN}_password", f"x.{TOKEN}.password"])
def test_a_name_that_holds_a_token_is_not_told(name: str) -> None:
    for text in (json.dumps({name: WORD}), f"{name} = '{WORD}'"):
        (item,) = found(text)
        assert item.finding.message.endswith(", given to a name that looks like a secret.")
        assert TOKEN[:8] not in f"{item!r}"
