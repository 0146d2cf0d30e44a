"""API keys: shown once, stored as a keyed hash, found by id, checked in constant time.

    ks_<key id, 12>_<secret, 43><checksum, 6>

The secret is 32 random bytes in base64url; the checksum is the CRC-32 of all that precedes it in
base 62, so that a typing error is told apart without asking anybody and a scanner can recognise
a leaked key. A secret of 256 random bits needs no slow hash: argon2 would only hand strangers a
lever on our CPU. HMAC-SHA256 under a pepper kept in another file makes a stolen record file
useless.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.mac import Mac
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.identity.principal import (
    Grant,
    Principal,
    PrincipalKind,
    check_principal_id,
    grants_to_list,
    parse_grants,
)

PREFIX = "ks_"
PEPPER_SIZE = 32
SCHEMA = "keepstone.api-keys/v1"
DAY_MS = 86_400_000
_LENGTH = 65
_KEY_ID = re.compile(r"[a-z0-9]{12}\Z")
_SHAPE = re.compile(r"ks_[a-z0-9]{12}_[A-Za-z0-9_-]{43}[A-Za-z0-9]{6}\Z", re.ASCII)
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FILE_LIMIT = 64 << 20


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode("ascii"))
    digits = []
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def is_well_formed(text: str) -> bool:
    """Whether `text` has a key's shape and checksum. It may still be nobody's key."""
    return bool(_SHAPE.match(text)) and _checksum(text[:-6]) == text[-6:]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What is kept of a secret: its HMAC-SHA256, and until when it still holds."""

    mac: bytes
    ends: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """One key as it is stored. Times are milliseconds. The newest secret comes first."""

    key_id: str
    principal: str
    grants: frozenset[Grant]
    created: int
    expires: int
    secrets: tuple[StoredSecret, ...]
    revoked_at: int | None = None

    def __post_init__(self) -> None:
        check_principal_id(self.principal)
        if not _KEY_ID.match(self.key_id):
            raise InputError("apikeys.malformed", "A key's id is 12 of a-z and 0-9.")
        if not 1 <= len(self.secrets) <= 2 or any(len(kept.mac) != 32 for kept in self.secrets):
            raise InputError("apikeys.malformed", "A key has one or two secrets of 32 bytes.")
        if self.secrets[0].ends is not None or any(kept.ends is None for kept in self.secrets[1:]):
            raise InputError("apikeys.malformed", "Only a key's former secret has an end.")
        if self.expires <= self.created:
            raise InputError("apikeys.malformed", "A key expires after it was created.")

    def state(self, now: int) -> str:
        """`live`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "live" if now < self.expires else "expired"


@dataclass(frozen=True, slots=True)
class _Slot:
    """A record made ready for the hot path: two MACs always, so that each look-up costs two
    comparisons whether or not the key exists."""

    current: bytes
    previous: bytes
    previous_ends: int
    expires: int
    revoked: bool
    principal: Principal | None


class ApiKeyRing:
    """The keys of one workspace.

    `authenticate` never tells an unknown key id from a wrong secret, neither by its answer nor
    by the work it does. Changes take effect at once in this process; the caller writes
    `to_json()` to disk. Every method may be called from any thread.
    """

    def __init__(
        self,
        records: Iterable[ApiKeyRecord],
        pepper: bytes,
        *,
        max_lifetime_ms: int = 366 * DAY_MS,
        randomness: Randomness | None = None,
    ) -> None:
        if len(pepper) != PEPPER_SIZE:
            raise InputError("apikeys.bad_pepper", f"The pepper is not {PEPPER_SIZE} bytes.")
        self._mac = Mac(pepper).digest
        self._max_lifetime_ms = max_lifetime_ms
        self._randomness = randomness if randomness is not None else SystemRandomness()
        # Nothing hashes to these: they stand where a record has no such secret.
        self._nothing = secrets.token_bytes(32)
        self._absent = _Slot(self._nothing, self._nothing, 0, 0, True, None)
        self._change = threading.Lock()
        self._records: dict[str, ApiKeyRecord] = {}
        self._slots: dict[str, _Slot] = {}
        for record in records:
            if record.key_id in self._records:
                raise InputError("apikeys.malformed", f"Key {record.key_id} is listed twice.")
            self._put(record)

    @property
    def records(self) -> tuple[ApiKeyRecord, ...]:
        """Every record, oldest first."""
        return tuple(sorted(self._records.values(), key=lambda kept: (kept.created, kept.key_id)))

    def authenticate(self, presented: str | bytes, now: int) -> Principal:
        """Return the principal of a live key.

        Raises DeniedError `auth.missing`, `auth.malformed`, `auth.unknown_key` (an unknown id or
        a wrong secret), `auth.expired`, `auth.revoked` (both only to who knows the secret).
        """
        if isinstance(presented, str):
            text = presented
            data = presented.encode("utf-8", "replace")
        else:
            text = presented.decode("latin-1")
            data = presented
        if len(data) != _LENGTH:
            raise _unusable(text)
        slot = self._slots.get(text[3:15], self._absent)
        mac = self._mac(data)
        is_current = hmac.compare_digest(mac, slot.current)
        is_previous = hmac.compare_digest(mac, slot.previous) and now < slot.previous_ends
        if not (is_current or is_previous) or slot.principal is None:
            raise _unusable(text)
        if slot.revoked:
            raise DeniedError("auth.revoked", "The API key was revoked.")
        if now >= slot.expires:
            raise DeniedError(
                "auth.expired",
                "The API key has expired.",
                "Ask for a new one: keepstone keys create.",
            )
        return slot.principal

    def mint(
        self, principal: str, grants: Iterable[Grant], *, now: int, lifetime_ms: int
    ) -> tuple[str, ApiKeyRecord]:
        """Make a key and return its text, which is kept nowhere, and its record.

        Raises InputError `apikeys.lifetime`, `principal.invalid`.
        """
        if not 0 < lifetime_ms <= self._max_lifetime_ms:
            raise InputError(
                "apikeys.lifetime",
                f"A key may live at most {self._max_lifetime_ms // 1000} seconds.",
                "Ask for a shorter life, or raise keys.max_lifetime in the policy.",
            )
        with self._change:
            key_id = self._new_id()
            text, kept = self._new_secret(key_id)
            record = ApiKeyRecord(
                key_id, principal, frozenset(grants), now, now + lifetime_ms, (kept,)
            )
            self._put(record)
        return text, record

    def rotate(self, key_id: str, *, now: int, overlap_ms: int) -> tuple[str, ApiKeyRecord]:
        """Give the key a new secret; the one it had works for `overlap_ms` more.

        Never more than two secrets live: a second rotation ends the oldest at once. The key's
        own expiry stays. Raises InputError `apikeys.unknown`, DeniedError `apikeys.not_live`.
        """
        with self._change:
            record = self._known(key_id)
            if record.state(now) != "live":
                raise DeniedError("apikeys.not_live", f"Key {key_id} is {record.state(now)}.")
            text, kept = self._new_secret(key_id)
            leaving = replace(record.secrets[0], ends=now + max(0, overlap_ms))
            rotated = replace(record, secrets=(kept, leaving) if overlap_ms > 0 else (kept,))
            self._put(rotated)
        return text, rotated

    def revoke(self, key_id: str, *, now: int) -> ApiKeyRecord:
        """End the key now and for ever. Raises InputError `apikeys.unknown`."""
        with self._change:
            record = self._known(key_id)
            if record.revoked_at is None:
                record = replace(record, revoked_at=now)
                self._put(record)
        return record

    def to_json(self) -> bytes:
        """The record file: canonical JSON, without the pepper."""
        return canonical({"schema": SCHEMA, "keys": [_to_dict(kept) for kept in self.records]})

    @classmethod
    def parse(
        cls,
        data: bytes,
        pepper: bytes,
        *,
        max_lifetime_ms: int = 366 * DAY_MS,
        randomness: Randomness | None = None,
    ) -> ApiKeyRing:
        """Read a record file. Raises InputError `apikeys.malformed`, `apikeys.newer_version`."""
        records = _parse_records(data)
        return cls(records, pepper, max_lifetime_ms=max_lifetime_ms, randomness=randomness)

    def _known(self, key_id: str) -> ApiKeyRecord:
        record = self._records.get(key_id)
        if record is None:
            raise InputError(
                "apikeys.unknown", f"There is no key {key_id[:32]!r}.", "See `keepstone keys list`."
            )
        return record

    def _new_id(self) -> str:
        for _ in range(8):
            number = int.from_bytes(self._randomness.token_bytes(16), "big")
            digits = []
            for _ in range(12):
                number, digit = divmod(number, 36)
                digits.append(_BASE36[digit])
            key_id = "".join(digits)
            if key_id not in self._records:
                return key_id
        raise OperationalError("apikeys.no_randomness", "The source of randomness repeats itself.")

    def _new_secret(self, key_id: str) -> tuple[str, StoredSecret]:
        secret = urlsafe_b64encode(self._randomness.token_bytes(32)).rstrip(b"=").decode("ascii")
        body = f"{PREFIX}{key_id}_{secret}"
        text = body + _checksum(body)
        return text, StoredSecret(self._mac(text.encode("ascii")))

    def _put(self, record: ApiKeyRecord) -> None:
        leaving = record.secrets[1] if len(record.secrets) == 2 else None
        first = record.secrets[0]
        slot = _Slot(
            current=first.mac,
            previous=leaving.mac if leaving is not None else self._nothing,
            previous_ends=(leaving.ends or 0) if leaving is not None else 0,
            # A policy that shortens lives reaches the keys that were minted before it.
            expires=min(record.expires, record.created + self._max_lifetime_ms),
            revoked=record.revoked_at is not None,
            principal=Principal(
                record.principal, PrincipalKind.API_KEY, record.grants, "api_key", record.key_id
            ),
        )
        self._records = {**self._records, record.key_id: record}
        self._slots[record.key_id] = slot


def _unusable(text: str) -> DeniedError:
    if not text:
        return DeniedError(
            "auth.missing", "No API key was given.", "Send `Authorization: Bearer <key>`."
        )
    if not is_well_formed(text):
        return DeniedError(
            "auth.malformed",
            "The API key is mistyped or cut short.",
            "Compare it with the key that was printed; its last six characters are a checksum.",
        )
    return DeniedError(
        "auth.unknown_key", "The API key is not known here.", "Check which endpoint it belongs to."
    )


def _to_dict(record: ApiKeyRecord) -> dict[str, Any]:
    return {
        "key_id": record.key_id,
        "principal": record.principal,
        "grants": grants_to_list(record.grants),
        "created": record.created,
        "expires": record.expires,
        "secrets": [{"mac": kept.mac.hex(), "ends": kept.ends} for kept in record.secrets],
        "revoked_at": record.revoked_at,
    }


_RECORD_KEYS = {"key_id", "principal", "grants", "created", "expires", "secrets", "revoked_at"}


def _malformed(cause: str) -> InputError:
    return InputError(
        "apikeys.malformed", cause, "Restore the file of API keys from a backup, or mint new keys."
    )


def _parse_records(data: bytes) -> list[ApiKeyRecord]:
    value = parse_json(data, limit=_FILE_LIMIT)
    if not isinstance(value, dict) or value.keys() != {"schema", "keys"}:
        raise _malformed("The file of API keys holds exactly `schema` and `keys`.")
    schema, keys = value["schema"], value["keys"]
    if schema != SCHEMA:
        raise InputError(
            "apikeys.newer_version",
            f"The file of API keys is of the kind {str(schema)[:64]!r}, not {SCHEMA!r}.",
            "Use the Keepstone that wrote it, or a newer one.",
        )
    if not isinstance(keys, list):
        raise _malformed("`keys` is not a list.")
    return [_parse_record(item) for item in keys]


def _parse_record(item: Any) -> ApiKeyRecord:
    if not isinstance(item, dict) or item.keys() != _RECORD_KEYS:
        raise _malformed("A record of an API key lacks a field or has one too many.")
    kept = item["secrets"]
    if not isinstance(kept, list):
        raise _malformed("`secrets` is not a list.")
    return ApiKeyRecord(
        key_id=_text(item["key_id"]),
        principal=_text(item["principal"]),
        grants=parse_grants(item["grants"]),
        created=_time(item["created"]),
        expires=_time(item["expires"]),
        secrets=tuple(_parse_secret(entry) for entry in kept),
        revoked_at=_optional_time(item["revoked_at"]),
    )


def _parse_secret(entry: Any) -> StoredSecret:
    if not isinstance(entry, dict) or entry.keys() != {"mac", "ends"}:
        raise _malformed("A stored secret holds exactly `mac` and `ends`.")
    mac = _text(entry["mac"])
    if not re.fullmatch(r"[0-9a-f]{64}", mac):
        raise _malformed("A stored secret's `mac` is not 32 bytes in hex.")
    return StoredSecret(bytes.fromhex(mac), _optional_time(entry["ends"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _malformed("A field that should be text is not.")
    return value


def _time(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise _malformed("A field that should be a time in milliseconds is not.")
    return value


def _optional_time(value: Any) -> int | None:
    return None if value is None else _time(value)
