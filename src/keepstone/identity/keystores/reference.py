"""Naming a key: a file's path, a `pkcs11:` URI (RFC 7512), or `awskms:///KEY`.

One text, read once, for every option that takes a key. Parsing is strict: an attribute that is
not known could have named another key than the one that is found without it, so it is refused.
A PIN is never part of a name: command lines are listed by `ps` and kept by shells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from keepstone.errors import InputError

MAX_REFERENCE = 4096
_PKCS11, _AWSKMS = "pkcs11:", "awskms:"
_MAX_ID = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# RFC 7512 2.3: what may stand unescaped in a path and in a query attribute.
_PATH_TEXT = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*\Z")
_QUERY_TEXT = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*\Z")
_TOKEN_FIELDS = ("token", "serial", "manufacturer", "model")
_KMS_KEY = re.compile(
    r"(?:arn:aws[a-z-]*:kms:[a-z0-9-]{1,32}:[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}"
    r"|alias/[A-Za-z0-9/_-]{1,256}"
    r"|[A-Za-z0-9-]{1,128})\Z"
)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A private key in a file of its own."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TokenReference:
    """A key inside a PKCS#11 token: which token, and its label or id there.

    `module` is the token's driver and `pin_source` the file with its PIN, where the URI names
    them; `str()` leaves both out, so that what is stored names a key and loads no code.
    """

    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    label: str | None = None
    key_id: bytes | None = None
    module: Path | None = None
    pin_source: Path | None = None

    def __str__(self) -> str:
        texts = [(name, getattr(self, name)) for name in _TOKEN_FIELDS]
        texts.append(("object", self.label))
        parts = [f"{name}={quote(text, safe='')}" for name, text in texts if text is not None]
        if self.key_id is not None:
            parts.append("id=" + "".join(f"%{byte:02X}" for byte in self.key_id))
        return _PKCS11 + ";".join(parts)


@dataclass(frozen=True, slots=True)
class KmsReference:
    """A key in AWS KMS: its ARN, its id, or an alias. Where KMS is, AWS's own settings say."""

    key: str

    def __str__(self) -> str:
        return f"{_AWSKMS}///{self.key}"


KeyReference = FileReference | TokenReference | KmsReference


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """What opens a PKCS#11 token, as the edge read it from the environment.

    `pin` is asked for only when a token is opened; `module` is the path of its driver.
    """

    pin: str | None = field(default=None, repr=False)
    module: Path | None = None


def parse_key_reference(text: str) -> KeyReference:
    """Read what names a key; whatever begins with neither scheme is a path.

    Raises InputError `key.bad_reference`, or `key.pin_in_reference` for a PIN inside a URI.
    """
    if not text or len(text) > MAX_REFERENCE or "\0" in text:
        raise _bad("it is empty, or longer than a name can be")
    scheme = text[: len(_PKCS11)].lower()
    if scheme == _PKCS11:
        return _parse_token(text[len(_PKCS11) :])
    if scheme == _AWSKMS:
        return _parse_kms(text[len(_AWSKMS) :])
    return FileReference(Path(text))


def _parse_kms(rest: str) -> KmsReference:
    host, _, key = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or host:
        raise InputError(
            "key.bad_reference",
            "A key in AWS KMS is named awskms:///KEY, with no host.",
            "Set AWS_ENDPOINT_URL_KMS where KMS is not AWS's own.",
        )
    if not _KMS_KEY.match(key):
        raise _bad("KEY is neither an ARN of KMS, nor an alias/NAME, nor a key id")
    return KmsReference(key)


def _parse_token(rest: str) -> TokenReference:
    # (1) RFC 7512 2.3: path attributes divided by `;`, query attributes by `&`; each once.
    path, has_query, query = rest.partition("?")
    named = _attributes(path, ";", _PATH_TEXT)
    asked = _attributes(query, "&", _QUERY_TEXT) if has_query else {}
    # (2) RFC 7512 5 and 7: a PIN has no place in a URI that others can read.
    if "pin-value" in asked:
        raise InputError(
            "key.pin_in_reference",
            "The pkcs11 URI holds a PIN, which others can read on a command line.",
            "Set KEEPSTONE_PIN, or name a file of mode 0600 with ?pin-source=file:/PATH.",
        )
    # (3) RFC 7512 2.3: the attributes that say which token and which key.
    key_id = named.pop("id", None)
    if key_id is not None and not 0 < len(key_id) <= _MAX_ID:
        raise _bad(f"`id` has not 1 to {_MAX_ID} bytes")
    # The type adds nothing: what the key is for says which of its objects is meant.
    if named.pop("type", b"private") not in (b"private", b"secret-key"):
        raise _bad("`type` is neither private nor secret-key")
    texts = {name: _text(name, named.pop(name, None)) for name in _TOKEN_FIELDS}
    label = _text("object", named.pop("object", None))
    module, pin_source = _file(asked, "module-path"), _file(asked, "pin-source")
    for left in (*named, *asked):
        raise _bad(f"the attribute {left[:32]!r} is not known here")
    if texts["token"] is None and texts["serial"] is None:
        raise _bad("neither `token` nor `serial` says which token")
    if label is None and key_id is None:
        raise _bad("neither `object` nor `id` says which key")
    return TokenReference(**texts, label=label, key_id=key_id, module=module, pin_source=pin_source)


def _attributes(text: str, divider: str, allowed: re.Pattern[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(divider):
        name, equals, value = part.partition("=")
        if not equals or not re.match(r"[a-z][a-z-]{0,31}\Z", name) or not allowed.match(value):
            raise _bad(f"{part[:32]!r} is no attribute")
        if name in found:
            raise _bad(f"the attribute `{name}` comes twice")
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"`{name}` is not UTF-8") from error
    if not text or _CONTROL.search(text):
        raise _bad(f"`{name}` is empty, or holds a control character")
    return text


def _file(asked: dict[str, bytes], name: str) -> Path | None:
    """RFC 7512 2.4: `module-path` is a path, `pin-source` a path or a file URI."""
    text = _text(name, asked.pop(name, None))
    if text is None:
        return None
    path = Path(text.removeprefix("file://").removeprefix("file:"))
    if not path.is_absolute():
        raise _bad(f"`{name}` is not the full path of a file")
    return path


def _bad(why: str) -> InputError:
    return InputError(
        "key.bad_reference",
        f"This does not name a key: {why}.",
        "Name a file, pkcs11:token=LABEL;object=LABEL, or awskms:///KEY.",
    )
