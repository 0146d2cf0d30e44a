"""Files without a secret, full of what looks like one: hashes, pictures, placeholders."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator

from bench.planted.values import ALNUM, HEX, Source, some

_NOUNS = [
    "account",
    "model",
    "dataset",
    "tensor",
    "cluster",
    "batch",
    "layer",
    "metric",
    "token",
    "session",
    "gateway",
    "worker",
]
_VERBS = [
    "load",
    "save",
    "train",
    "merge",
    "encode",
    "parse",
    "verify",
    "rotate",
    "refresh",
    "validate",
    "split",
    "fetch",
]
_NAMES = [
    "requests",
    "numpy",
    "torch",
    "fastapi",
    "pydantic",
    "uvicorn",
    "httpx",
    "click",
    "rich",
    "attrs",
    "jinja2",
]


def _digest(source: Source) -> str:
    return hashlib.sha256(source.randbytes(8)).hexdigest()


def _uuid(source: Source) -> str:
    return str(uuid.UUID(bytes=source.randbytes(16), version=4))


def _base64(source: Source, size: int) -> str:
    return b64encode(source.randbytes(size)).decode()


def _code(source: Source) -> str:
    lines = ["import os", "from getpass import getpass", "", "SECRET_LENGTH = 32", ""]
    for number in range(60):
        verb, noun = source.choice(_VERBS), source.choice(_NOUNS)
        lines += [
            f"def {verb}_{noun}_{number}(password: str, token: str | None = None, *, key=None):",
            f'    """{verb.title()} a {noun}; the password is asked for where there is none."""',
            f"    password = password or os.environ['{noun.upper()}_PASSWORD']",
            f"    token = token or get_token(key, scope='{noun}:{verb}')",
            f"    if password == 'changeme' or token != client.{noun}_token:",
            f"        raise ValueError('no password for {noun}')",
            "    secret = getpass('Secret: ')",
            f"    api_key = settings.{noun}_api_key",
            f"    headers = {{'Authorization': f'Bearer {{token}}', 'X-Id': '{_uuid(source)}'}}",
            f"    return {verb}(headers, password=password, digest='{_digest(source)[:40]}')",
            "",
        ]
    return "\n".join(lines)


def _lock(source: Source) -> str:
    lines = []
    for number in range(150):
        name = f"{source.choice(_NAMES)}-{number}"
        lines.append(f"{name}=={source.randrange(9)}.{source.randrange(20)}.{number} \\")
        lines += [f"    --hash=sha256:{_digest(source)} \\" for _ in range(3)]
        lines.append(f"    --hash=sha256:{_digest(source)}")
    return "\n".join(lines)


def _package_lock(source: Source) -> str:
    packages = {}
    for number in range(120):
        name = f"node_modules/{source.choice(_NAMES)}-{number}"
        packages[name] = {
            "version": f"{number}.0.1",
            "resolved": f"https://registry.example.org/{number}/-/{number}.tgz",
            "integrity": "sha512-" + b64encode(source.randbytes(64)).decode(),
        }
    return json.dumps({"name": "app", "lockfileVersion": 3, "packages": packages}, indent=2)


def _sums(source: Source) -> str:
    return "\n".join(
        f"example.org/{source.choice(_NAMES)}/v{n} v1.{n}.0 h1:{_base64(source, 32)}"
        for n in range(300)
    )


def _compose(source: Source) -> str:
    lines = ["services:"]
    for number in range(60):
        name = f"{source.choice(_NOUNS)}{number}"
        lines += [
            f"  {name}:",
            f"    image: registry.example.org/{name}@sha256:{_digest(source)}",
            "    environment:",
            f"      DB_PASSWORD: ${{{name.upper()}_PASSWORD}}",
            f"      API_TOKEN_FILE: /run/secrets/{name}_token",
            "      SECRET_KEY: <your-secret-key>",
            "      ACCESS_TOKEN: ${{ secrets.ACCESS_TOKEN }}",
            f"      TRACE_ID: {_uuid(source)}",
            "    secrets:",
            f"      - {name}_token",
        ]
    return "\n".join(lines)


def _settings(source: Source) -> str:
    document = {
        f"{source.choice(_NOUNS)}_{n}": {
            "id": _uuid(source),
            "etag": _digest(source)[:32],
            "eos_token": "</s>",
            "pad_token": "<|endoftext|>",
            "max_tokens": source.randrange(9999),
            "tokenizer_class": "PreTrainedTokenizerFast",
            "password_min_length": 12,
            "token_url": f"https://login.example.org/oauth2/{n}/token",
            "auth_type": "client_credentials",
            "commit": some(source, HEX, 40),
        }
        for n in range(80)
    }
    return json.dumps(document, indent=2)


def _docs(source: Source) -> str:
    key, secret = "AKIA" + "IOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfi" + "CYEXAMPLEKEY"
    lines = ["# Configuration", ""]
    for number in range(60):
        noun = source.choice(_NOUNS)
        lines += [
            f"## {noun.title()} {number}",
            "",
            f"Set `{noun.upper()}_API_KEY` to your key, and the password in the vault.",
            "",
            "```sh",
            f'export {noun.upper()}_API_KEY="your-api-key-here"',
            "export AWS_ACCESS_KEY_ID=" + key,
            "export AWS_SECRET_ACCESS_KEY=" + secret,
            'export GITHUB_TOKEN="gh' + 'p_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"',
            f"curl -H 'Authorization: Bearer $TOKEN' https://user:password@{noun}.example.org",
            "psql postgresql://USER:PASSWORD@localhost/db",
            "```",
            "",
            f'    client = Client(password="***", token=os.environ["{noun.upper()}_TOKEN"])',
            "",
            f"See commit {some(source, HEX, 40)} and `sha256:{_digest(source)}`.",
            "",
        ]
    return "\n".join(lines)


def _notebook(source: Source) -> str:
    cells = []
    for number in range(12):
        picture = b64encode(source.randbytes(2000)).decode()
        cells.append(
            {
                "cell_type": "code",
                "id": some(source, HEX, 8),
                "execution_count": number,
                "metadata": {},
                "source": [f"tokens = tokenizer.encode(text_{number})\n", "plt.plot(tokens)\n"],
                "outputs": [
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {
                            "image/png": picture,
                            "text/plain": [f"<Figure at 0x{some(source, HEX, 12)}>"],
                        },
                    }
                ],
            }
        )
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}, indent=1
    )


def _log(source: Source) -> str:
    return "\n".join(
        f"2026-03-{n % 28 + 1:02} 12:00:{n % 60:02} INFO request={_uuid(source)}"
        f" etag={_digest(source)[:32]} token accepted for key id k{n} in {n} ms"
        for n in range(500)
    )


def _env(source: Source) -> str:
    lines = []
    for number in range(60):
        noun = source.choice(_NOUNS).upper()
        lines += [
            f"{noun}_{number}_PASSWORD=",
            f"{noun}_{number}_TOKEN=changeme",
            f"{noun}_{number}_SECRET=${{VAULT_{noun}}}",
            f"{noun}_{number}_KEY_FILE=/etc/{noun.lower()}/key.pem",
            f"{noun}_{number}_ID={_uuid(source)}",
        ]
    return "\n".join(lines)


def _minified(source: Source) -> str:
    parts = [
        f"function {some(source, ALNUM[:26], 2)}(e,t){{var n=e.token,r=t.password;return n&&r?"
        f"{{key:n,auth:r.length>{n}}}:null}}"
        for n in range(200)
    ]
    return "/*! app */\n" + "".join(parts) + "\n//# sourceMappingURL=app.js.map\n"


def _svg(source: Source) -> str:
    points = " ".join(f"{source.randrange(999)},{source.randrange(999)}" for _ in range(400))
    picture = b64encode(source.randbytes(3000)).decode()
    style = f"@font-face {{ src: url(data:font/woff2;base64,{picture}) }}"
    return f"<svg>\n<style>{style}</style>\n<polyline points='{points}'/>\n</svg>\n"


def _certificates(source: Source) -> str:
    lines = []
    for _ in range(12):
        body = b64encode(b"\x30\x82" + source.randbytes(700)).decode()
        lines.append("-----BEGIN CERTIFICATE-----")
        lines += [body[at : at + 64] for at in range(0, len(body), 64)]
        lines += [
            "-----END CERTIFICATE-----",
            f"ssh-ed25519 {b64encode(source.randbytes(51)).decode()}",
        ]
    return "\n".join(lines)


def _schema(source: Source) -> str:
    fields = {
        f"{source.choice(_NOUNS)}_{n}": {
            "type": "string",
            "title": source.choice(("Password", "API Key", "Token", "Client Secret")),
            "format": "password",
            "default": None,
            "description": "The secret that the service gave you.",
            "examples": ["<token>", "your_password", "xxxxxxxxxxxx"],
        }
        for n in range(80)
    }
    return json.dumps({"properties": fields, "required": ["password", "token"]}, indent=2)


MAKERS: tuple[tuple[str, Callable[[Source], str]], ...] = (
    ("code.py", _code),
    ("requirements.txt", _lock),
    ("package-lock.json", _package_lock),
    ("go.sum", _sums),
    ("compose.yaml", _compose),
    ("settings.json", _settings),
    ("docs.md", _docs),
    ("plots.ipynb", _notebook),
    ("app.log", _log),
    ("example.env", _env),
    ("app.min.js", _minified),
    ("figure.svg", _svg),
    ("certificates.pem", _certificates),
    ("schema.json", _schema),
)


def honest_files(source: Source, rounds: int) -> Iterator[tuple[str, bytes]]:
    """`rounds` of each kind: about 4,200 lines for one."""
    for number in range(rounds):
        for name, make in MAKERS:
            yield f"{number}_{name}", (make(source) + "\n").encode()
