"""Values given to secrets' names: found in every notation, and left alone where they are none."""

from __future__ import annotations

import json

import pytest

from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.names import NameOf, name_of
from keepstone.scan.secrets.passage import Passage

WORD = "Vel" + "vet_Harbor83!"
KEY = "q7Zr2" + "LmX9vB4nT8wK1cYdP3s"


def hits(text: str, name: str = "x.txt") -> list[Hit]:
    return Passage(text, name).hits()


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "dbPassword", "smtp-password", "pgpassword", "passphrase", "PWD2"],
)
def test_names_of_passwords(name: str) -> None:
    assert name_of(name) is NameOf.PASSWORD


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "X-Api-Key",
        "SECRET_KEY",
        "clientSecret",
        "auth_token",
        "AccessToken",
        "aws_secret_access_key",
        "token_prod",
        "connectionString",
        "encryption-key",
        "NPM_TOKEN",
    ],
)
def test_names_of_keys(name: str) -> None:
    assert name_of(name) is NameOf.KEY


@pytest.mark.parametrize(
    "name",
    [
        "password_file",
        "token_url",
        "max_tokens",
        "eos_token",
        "secret_name",
        "keyboard",
        "key",
        "token_type_ids",
        "password_length",
        "author",
        "cache_key",
        "secretary",
        "tokenizer",
        "public_key",
        "primary_key",
        "compass",
        "bypass",
        "passed",
        "authority",
        "next_token",
    ],
)
def test_names_of_nothing(name: str) -> None:
    assert name_of(name) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", f'password = "{WORD}"'),
        ("a.py", f"password: str = '{WORD}'"),
        ("a.py", f'connect(host="x", password="{WORD}")'),
        ("a.py", f'CONFIG["password"] = "{WORD}"'),
        ("a.py", f'os.environ["PASSWORD"] = "{WORD}"'),
        ("a.py", f'os.environ.setdefault("DB_PASSWORD", "{WORD}")'),
        ("a.py", f'if password == "{WORD}":'),
        ("a.py", f'password = (\n    "{WORD[:6]}"\n    "{WORD[6:]}"\n)'),
        ("a.py", f'dsn = "Server=db;User ID=a;Password={WORD};Encrypt=True"'),
        ("a.json", json.dumps({"password": WORD})),
        ("a.json", json.dumps({"body": json.dumps({"password": WORD})})),
        ("a.json", json.dumps({"name": "DB_PASSWORD", "value": WORD})),
        ("a.yaml", f"password: {WORD}"),
        ("a.yaml", f"password: |-\n  {WORD}"),
        ("a.yaml", f"- name: DB_PASSWORD\n  value: '{WORD}'"),
        ("a.toml", f'password = "{WORD}"'),
        ("a.ini", f"password={WORD}"),
        (".env", f"DB_PASSWORD={WORD}"),
        ("a.sh", f"export DB_PASSWORD='{WORD}'"),
        ("a.xml", f"<password>{WORD}</password>"),
        ("a.xml", f'<add key="Password" value="{WORD}" />'),
        ("a.properties", f"app.password={WORD}"),
        ("a.js", f"const password = `{WORD}`;"),
        ("a.rb", f"password => '{WORD}'"),
        ("a.go", f'password := "{WORD}"'),
        ("run.txt", f"app --password {WORD} --port 80"),
        ("Dockerfile", f"ENV DB_PASSWORD={WORD}"),
        ("a.ipynb.py", f"%env DB_PASSWORD={WORD}"),
    ],
)
def test_notations(name: str, text: str) -> None:
    (hit,) = hits(text, name)
    assert hit.rule == "secret.assigned"
    assert hit.value == WORD


@pytest.mark.parametrize(
    "value",
    [
        "changeme",
        "CHANGE_ME_NOW_1",
        "xxxxxxxxxxxx",
        "your-password-1",
        "<password1>",
        "${PASSWORD}",
        "{{ password }}",
        "$PASSWORD1",
        "%(password)s",
        "********",
        "example-Pa55",
        "password1",
        "os.environ['X1']",
        "vault:secret/x#y1",
        "/run/secrets/db_1",
        "None",
        "2024-01-02",
        "10.0.0.1",
        "$2b$12$abcdefghijklmnopqrstuv",
        "pbkdf2_sha256$260000$abc1$def2",
        "{SSHA}abc123def456",
        "3f2b8c1e-6d4a-4b7e-9f10-2a3b4c5d6e7f",
        "sha256:" + "ab12" * 16,
        "hello",
        "test-1234",
    ],
)
def test_what_is_left_alone(value: str) -> None:
    assert not hits(f'password = "{value}"', "a.py")
    assert not hits(f'api_key: "{value}"', "a.yaml")


def test_source_gives_expressions_and_no_secrets() -> None:
    text = (
        "password = get_password(x1)\ntoken = tokens[0]\nsecret = key.value2\n"
        "self.token = a1b2c3d4e5f6\napi_key = rsaKey2048Pkcs8v3xQ\n"
    )
    assert hits("api_key = rsaKey2048Pkcs8v3xQ\n", "a.ini")
    assert not hits(text, "a.py")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"postgresql://me:{KEY}@db.internal.net/x", "password in an address"),
        (f"curl -u me:{KEY} https://x.net", "password for curl"),
        (f"Authorization: Bearer {KEY}abcd1", "bearer token"),
        (f"machine x.net\nlogin me\npassword {KEY}", "netrc password"),
        (f"WANDB_API_KEY={'0a1b2c3d4e' * 3}f5a6b7c8d9", "Weights & Biases key"),
    ],
)
def test_forms(text: str, kind: str) -> None:
    assert [hit.kind for hit in hits(text)] == [kind]


def test_pgpass_counts_in_its_own_file_alone() -> None:
    line = f"db.internal.net:5432:models:me:{KEY}\n"
    assert [hit.kind for hit in hits(line, ".pgpass")] == ["PostgreSQL password file"]
    assert not hits(line, "x.txt")


def test_addresses_of_the_handbook_hold_no_secret() -> None:
    for pair in ("user:password", "user:pass", "USER:PASSWORD", "u:${P}", "u:{p}", "user:<pw>"):
        assert not hits(f"https://{pair}@host.example.org/")


def test_a_secret_is_one_finding_by_the_strictest_rule() -> None:
    found = hits(f'url = "postgresql://me:{KEY}@db.net"\npassword = "{KEY}"', "a.py")
    assert [hit.rule for hit in found] == ["secret.credential", "secret.assigned"]


def test_variables_in_prose_need_no_quotes() -> None:
    assert [hit.value for hit in hits(f"Run it:\n\n    DB_PASSWORD={WORD} app\n", "a.md")] == [WORD]
    assert not hits("password=get_it1 and more", "a.md")


def test_other_objects_beside_a_secret_of_kubernetes_are_none() -> None:
    plain = "apiVersion: v1\nkind: ConfigMap\ndata:\n  level: verbose-4\n---\n"
    text = plain + "kind: Secret\nstringData:\n  level: verbose-4\n  other: a$2y-(b)8\n"
    assert [hit.name for hit in hits(text, "a.yaml")] == ["level", "other"]
    assert not hits(plain, "a.yaml")
