"""The work for a text grows with its length and not faster, whoever made the text.

Counted, not timed: `Passage.read` is the number of characters that patterns may look at.
"""

from __future__ import annotations

from base64 import b64encode

import pytest

from keepstone.scan.secrets.passage import Passage

PIECES = [
    "password=",
    'password = "',
    "password: |\n  ",
    "<password>",
    "--token ",
    "eyJ",
    ".eyJhbGci",
    " eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIB",
    "://a:",
    "https://a:b",
    '"a" +\n',
    "''",
    "AKIA",
    "ghp_",
    "github_pat_",
    "sk-",
    "sk-proj-",
    ":AA",
    "1234567890:AA",
    "MTIz.",
    "Basic ",
    "Bearer aaaaaaaaaaaaaaaaaaaaaaaaa ",
    "machine a login b password ",
    "curl -u a:",
    "wandb key ",
    "kind: Secret\ndata:\n  a: YWJj\n",
    '"auth": "',
    "AccountKey=",
    "sig=aaaa",
    "PuTTY-User-Key-File-3: a\nEncryption: none\nPrivate-Lines: 1\n",
    '"schema": "keepstone.kek/v1"',
    b64encode(b"password: 'abc' ").decode() + " ",
    "YWJj",
    "a" * 50 + "=",
    "\\",
    "token,",
    "secret\n value:",
    "xoxb-1-",
]
WORD = "Vel" + "vet_Harbor83!"
SIZE = 8_000
# What one character of the worst of these texts costs. The windows are the reason.
MOST = 700


def read(text: str) -> int:
    passage = Passage(text, "a.txt")
    passage.hits()
    return passage.read


@pytest.mark.parametrize("piece", PIECES)
def test_work_is_linear(piece: str) -> None:
    small = piece * (SIZE // len(piece))
    large = piece * (4 * SIZE // len(piece))
    assert read(small) <= MOST * len(small)
    assert read(large) <= 4.4 * read(small) + 10_000


def test_a_line_of_a_megabyte_is_no_trouble() -> None:
    fields = ",".join(f'k{n}:"v{n}"' for n in range(80_000))
    text = f'var a={{{fields},password:"{WORD}"}}'
    found = Passage(text, "a.js")
    assert [hit.kind for hit in found.hits()] == ["password"]
    assert found.place(len(text) - 5)[0] == 1
    assert found.read < 40 * len(text)
