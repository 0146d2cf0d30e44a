"""Credentials in forms that a program reads as such: addresses, headers, netrc, Docker, Kubernetes.

What a form holds is a secret by its place, so it need not look like one; placeholders and
references are left alone all the same. Who logs in is no secret and is never kept, for services
take a token there too; where it looks like one it is a secret of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from keepstone.scan.secrets.checks import decode64, is_placeholder
from keepstone.scan.secrets.found import Hit
from keepstone.scan.secrets.names import NameOf
from keepstone.scan.secrets.values import entropy, is_secret, left_alone
from keepstone.scan.text.words import words

RULE = "secret.credential"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,24}\Z")
_USER = re.compile(r"([^\s:@/\"'<>\\?#]{0,200})(?::([^\s@/\"'<>\\]{0,256}))?@\[?[\w.-]")
# An address that errors are sent to, by Sentry's form: the key in it is public.
_DSN = re.compile(r"[0-9a-f]{32}(?::[0-9a-f]{32})?@[\w.:-]{1,200}/[0-9]{1,20}(?![\w/])")
_BASIC = re.compile(r"[Bb]asic[ :]{1,3}([A-Za-z0-9+/_-]{6,400}={0,2})")
_BEARER = re.compile(r"[Bb]earer[ :]{1,3}([A-Za-z0-9._~+/-]{20,1000}={0,2})")
_MACHINE = re.compile(
    r"machine[ \t]{1,8}\S{1,200}\s{1,20}login[ \t]{1,8}(\S{1,200})\s{1,20}"
    r"password[ \t]{1,8}(\S{1,400})"
)
_PGPASS = re.compile(
    r"(?:^|(?<=\n))[^:#\s]{1,200}:(?:[0-9]{1,5}|\*):[^:\s]{1,200}:[^:\s]{1,200}:([^\r\n]{1,200})"
)
_AUTH = re.compile(r"\\{0,3}\"auth\\{0,3}\"\s{0,8}:\s{0,8}\\{0,3}\"([A-Za-z0-9+/_-]{6,2000}={0,2})")
_KIND = re.compile(
    r"(?:^|(?<=\n))[ \t]{0,20}kind:[ \t]{0,8}[\"']?Secret\b|\"kind\"\s{0,8}:\s{0,8}\"Secret\""
)
_DOCUMENT = re.compile(r"(?:^|(?<=\n))---")
_DATA = re.compile(r"(?:^|(?<=\n))([ \t]{0,40})(?:data|stringData):[ \t]{0,20}\r?\n")
_DATA_JSON = re.compile(r"\"(?:data|stringData)\"\s{0,8}:\s{0,8}\{([^{}]{1,20000})\}")
_ENTRY = re.compile(r"([ \t]{1,80})[\"']?([\w.-]{1,200})[\"']?:[ \t]{1,8}[\"']?([^\s\"'#]{1,4000})")
_ENTRY_JSON = re.compile(r"\"([\w.-]{1,200})\"\s{0,8}:\s{0,8}\"([^\"\\]{1,4000})\"")
_CURL = re.compile(r"(?:-u|--user)[ =]{1,4}[\"']?([^\s:\"']{1,200}):([^\s\"']{0,200})")
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+=_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])")
_NEAR = 400
_FORMAT = re.compile(
    r"\{[^{}]{0,80}\}|\$[{(]|^\$[A-Za-z_]\w{0,80}$|<[^<>]{0,80}>|%[s(]|\.\.\.|`"
    r"|\[[A-Za-z_ -]{0,80}\]"
)
_PLAIN = frozenset(
    words(
        "pass password passwd pwd pw secret user username token pat key credentials hunter2 p s123"
    )
)
# A service's name, and the form of its key, which is nothing by itself.
_NEARBY = (
    (
        "wandb",
        re.compile(r"(?:key|login|token)\W{1,10}([0-9a-f]{40})(?![0-9a-f])"),
        "Weights & Biases key",
    ),
    ("comet", re.compile(r"(?:key|token)\W{1,10}([A-Za-z0-9]{25})(?![A-Za-z0-9])"), "Comet key"),
    ("twilio", re.compile(r"[\"'=, ]([0-9a-f]{32})(?![0-9a-f])"), "Twilio token"),
    (
        "api.wandb.ai",
        re.compile(r"password[ \t]{1,8}([0-9a-f]{40})(?![0-9a-f])"),
        "Weights & Biases key",
    ),
)


def form_hits(text: str, name: str, count: Callable[[int], None] = lambda _: None) -> Iterator[Hit]:
    """Every credential in a known form. `name` is the file's, in lower case."""
    yield from _addresses(text, count)
    yield from _headers(text, count)
    if "machine" in text and "login" in text:
        for found in _MACHINE.finditer(text):
            if _is_token(found[1]):
                yield _login(found)
            if not _is_plain(found[2]):
                yield Hit(*found.span(2), RULE, "netrc password", found[2])
    if name.endswith(("pgpass", "pgpass.conf")):
        for found in _PGPASS.finditer(text):
            if not _is_plain(found[1]):
                yield Hit(*found.span(1), RULE, "PostgreSQL password file", found[1])
    if '"auth"' in text or '"auth\\' in text:
        for found in _AUTH.finditer(text):
            if _user_and_password(found[1]):
                yield Hit(*found.span(1), RULE, "Docker registry login", found[1])
    if "Secret" in text and _KIND.search(text):
        yield from _kubernetes(text)
    yield from _aws_secrets(text, count)
    yield from _nearby(text, count)


def _addresses(text: str, count: Callable[[int], None]) -> Iterator[Hit]:
    at = text.find("://")
    while at >= 0:
        if _SCHEME.search(text[max(0, at - 25) : at].split(" ")[-1][-25:]) is not None:
            found = _USER.match(text, at + 3, at + 480)
            count(480 if found is not None else 200)
            if found is not None and _is_token(found[1]) and not _DSN.match(text, at + 3):
                yield _login(found)
            if found is not None and not _is_plain(found[2] or "") and not _is_format(found[1]):
                yield _of_user(found, "password in an address")
        at = text.find("://", at + 3)


def _headers(text: str, count: Callable[[int], None]) -> Iterator[Hit]:
    for word, pattern in (("asic", _BASIC), ("earer", _BEARER)):
        at = text.find(word)
        while at >= 0:
            found = pattern.match(text, at - 1) if at else None
            count(420)
            if found is not None and word == "asic" and _user_and_password(found[1]):
                yield Hit(*found.span(1), RULE, "basic authentication", found[1])
            elif found is not None and word == "earer" and _is_random(found[1]):
                yield Hit(*found.span(1), RULE, "bearer token", found[1], False)
            at = text.find(word, at + 4)
    if "curl" in text:
        for found in _CURL.finditer(text):
            if "curl" not in text[max(0, found.start() - 300) : found.start()]:
                continue
            if _is_token(found[1]):
                yield _login(found)
            if not _is_plain(found[2]):
                yield _of_user(found, "password for curl")


def _of_user(found: re.Match[str], kind: str) -> Hit:
    return Hit(*found.span(2), RULE, kind, found[2], of_user=True)


def _login(found: re.Match[str]) -> Hit:
    """A token where a user's name stands. Somebody may have chosen it: no digest of it is made."""
    return Hit(*found.span(1), RULE, "token in a user's place", found[1])


def _is_token(user: str) -> bool:
    """Long, and mixed as keys are and names are not."""
    return len(user) >= 20 and is_secret(user, NameOf.KEY, True) and not _is_format(user)


def _is_random(value: str) -> bool:
    digits = any(c.isdigit() for c in value)
    return digits and entropy(value) >= 3.3 and not left_alone(value)


def _user_and_password(value: str) -> bool:
    raw = decode64(value)
    if raw is None or not raw.isascii():
        return False
    user, colon, word = raw.decode("ascii").partition(":")
    if not colon or not user or not (user + word).isprintable():
        return False
    return _is_token(user) or not _is_plain(word)


def _is_plain(value: str) -> bool:
    """No password, but a word that stands for one."""
    lower = value.lower().strip("*.-_ ")
    if len(lower) < 3 or lower in _PLAIN or is_placeholder(value) or _is_format(value):
        return True
    return left_alone(value) if lower.isalpha() or not value[:1].isalnum() else "${" in value


def _is_format(value: str) -> bool:
    """What a program puts the password into."""
    return _FORMAT.search(value) is not None


def _kubernetes(text: str) -> Iterator[Hit]:
    """The entries of a Secret: each is one by what the object is."""
    borders = [0, *(found.end() for found in _DOCUMENT.finditer(text)), len(text)]
    for begin, end in pairwise(borders):
        # A file may hold other objects beside it, whose data is no secret.
        if _KIND.search(text, begin, end) is not None:
            for found in _DATA.finditer(text, begin, end):
                yield from _entries(text, len(found[1]), found.end())
    for found in _DATA_JSON.finditer(text):
        if _KIND.search(text, max(0, found.start() - _NEAR), found.end() + _NEAR) is not None:
            for entry in _ENTRY_JSON.finditer(text, *found.span(1)):
                yield from _entry(entry[1], entry[2], entry.start(2))


def _entries(text: str, indent: int, at: int) -> Iterator[Hit]:
    """The lines that are deeper than `indent`, from `at` on."""
    for _ in range(1000):
        entry = _ENTRY.match(text, at, at + 5000)
        if entry is None or len(entry[1]) <= indent:
            return
        yield from _entry(entry[2], entry[3], entry.start(3))
        at = text.find("\n", entry.end()) + 1
        if not at:
            return


def _entry(name: str, value: str, start: int) -> Iterator[Hit]:
    raw = decode64(value)
    plain = value if raw is None or not raw.isascii() else raw.decode("ascii").strip()
    if len(plain) >= 4 and not _is_plain(plain) and not left_alone(plain):
        yield Hit(start, start + len(value), RULE, "Kubernetes secret", value, False, name[:80])


def _aws_secrets(text: str, count: Callable[[int], None]) -> Iterator[Hit]:
    """Forty characters of base64 beside an access key's id."""
    for prefix in ("AKIA", "ASIA"):
        at = text.find(prefix)
        while at >= 0:
            count(2 * _NEAR)
            for found in _AWS_SECRET.finditer(text, max(0, at - _NEAR), at + 20 + _NEAR):
                value = found[0]
                mixed = any(c.isdigit() for c in value) and any(c.islower() for c in value)
                mixed = mixed and any(c.isupper() for c in value) and entropy(value) > 4.0
                if mixed and not is_placeholder(value):
                    kind = "AWS secret access key"
                    yield Hit(*found.span(), "secret.token", kind, value, True)
            at = text.find(prefix, at + _NEAR)


def _nearby(text: str, count: Callable[[int], None]) -> Iterator[Hit]:
    for word, pattern, kind in _NEARBY:
        at = text.find(word)
        while at >= 0:
            count(200)
            for found in pattern.finditer(text, at, at + 200):
                if not is_placeholder(found[1]):
                    yield Hit(*found.span(1), "secret.token", kind, found[1], True)
            at = text.find(word, at + 100)
