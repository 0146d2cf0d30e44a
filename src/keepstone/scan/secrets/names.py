"""Names that say that their value is a secret: `db_password`, `apiKey`, `X-Auth-Token`.

A name counts by its last words: `password_file`, `max_tokens`, `eos_token` and `token_url` name
no secret.
"""

from __future__ import annotations

import re
from enum import Enum

from keepstone.scan.text.words import words


class NameOf(Enum):
    """What a name promises: a password may be short and plain, a key may not."""

    PASSWORD = "password"  # noqa: S105  # the word
    KEY = "key"


# Where a name may be: these are searched, whatever the case.
SEEDS = re.compile(
    r"passw|passp|_pass|pwd|secret|token|api[_. -]?key|access[_. -]?key|auth|private[_. -]?key"
    r"|credential|account[_. -]?key|storage[_. -]?key|encryption[_. -]?key|signing[_. -]?key"
    r"|master[_. -]?key|shared[_. -]?key|license[_. -]?key|service[_. -]?key"
    r"|conn(?:ection)?[_. -]?str|dbpass|userpass|bearer|webhook",
    re.IGNORECASE,
)
_BREAKS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
_PASSWORDS = frozenset(
    words(
        "password passwd pwd passphrase pass userpass dbpass passcode pgpassword mysqlpwd passwort"
    )
)
_KEYS = frozenset(
    words(
        """
    secret secrets token apikey apitoken accesskey secretkey authtoken authkey privatekey
    credential credentials clientsecret bearer accesstoken refreshtoken secretaccesskey
    authorization webhook apisecret appsecret sharedsecret
    """
    )
)
_BEFORE_KEY = frozenset(
    words(
        """
    api access secret private auth encryption encrypt signing sign master shared account storage
    service license session app application admin root hmac crypto cipher subscription aes jwt
    client server consumer deploy webhook
    """
    )
)
# Words that may follow, and say nothing.
_AFTER = frozenset(
    words(
        """
    value val prod production dev develop staging stage live default str string text plain raw
    b64 base64 old new current previous primary secondary main backup v1 v2 v3
    """
    )
)
# Tokens of language, of parsing and of paging, which are no secrets.
_NOT_BEFORE_TOKEN = frozenset(
    words(
        """
    eos bos unk sep cls mask pad special begin end start stop image next last first prev current
    csrf syntax lexer parser separator delimiter keyword open close boi eoi audio video vocab
    continuation page nextpage cancellation design prefix suffix middle string comment word
    control extra added new input output
    """
    )
)
_MOST = 80


def name_of(name: str) -> NameOf | None:
    """What `name` promises, or None where it names no secret."""
    if len(name) > _MOST:
        name = name[-_MOST:]
    parts = [word.lower() for word in _BREAKS.split(name) if word]
    if len(parts) > 1 and parts[-1] in ("string", "str") and parts[-2] in ("connection", "conn"):
        return NameOf.KEY
    while len(parts) > 1 and (parts[-1] in _AFTER or parts[-1].isdigit()):
        parts.pop()
    if not parts:
        return None
    last = parts[-1].rstrip("0123456789")
    before = parts[-2] if len(parts) > 1 else ""
    if last in _PASSWORDS and (last != "pass" or before):
        return NameOf.PASSWORD
    if last in ("phrase", "word") and before == "pass":
        return NameOf.PASSWORD
    if last == "token" and before in _NOT_BEFORE_TOKEN:
        return None
    if last in _KEYS:
        return NameOf.KEY
    if last == "key" and before in _BEFORE_KEY:
        return NameOf.KEY
    if last == "auth" and before in ("http", "basic", "redis", "proxy", "requirepass", "npm"):
        return NameOf.KEY
    run = "".join(parts[-3:])
    for end in ("password", "passwd", "passphrase"):
        if run.endswith(end):
            return NameOf.PASSWORD
    return NameOf.KEY if run.endswith(("apikey", "secretkey", "accesskey", "authtoken")) else None
