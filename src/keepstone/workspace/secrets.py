"""The workspace's symmetric secrets, each wrapped under the vault's key-encryption key.

The pepper of the API keys, the period keys of the audit trail, and (in `fingerprint_secrets`) what
fingerprints are drawn from: whoever copies the workspace without what unlocks the key-encryption
key holds ciphertext.
"""

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from keepstone.core.canonical import canonical, parse_json
from keepstone.core.ports import Randomness, SystemRandomness, rfc3339
from keepstone.errors import InputError, VerificationError
from keepstone.files import write_atomic
from keepstone.gateway.commitment import KEY_SIZE, Period
from keepstone.identity.apikeys import PEPPER_SIZE, ApiKeyRing
from keepstone.identity.signing import read_secret_file
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.workspace.fingerprint_secrets import FingerprintSecrets
from keepstone.workspace.layout import Layout

_PEPPER = b"keepstone api key pepper v1"
_SCHEMA = "keepstone.audit-periods/v1"
_LIMIT = 8 << 20
# A record takes some 300 bytes, and each `up` adds one.
_RING_LIMIT = 64 << 20


def create_pepper(layout: Layout, kek: KeyEncryptionKey) -> bytes:
    pepper = SystemRandomness().token_bytes(PEPPER_SIZE)
    write_atomic(layout.pepper, kek.wrap(pepper, _PEPPER))
    return pepper


def load_pepper(layout: Layout, kek: KeyEncryptionKey) -> bytes:
    return kek.unwrap(read_secret_file(layout.pepper), _PEPPER)


def load_ring(layout: Layout, kek: KeyEncryptionKey, max_lifetime_ms: int) -> ApiKeyRing:
    """The records of the API keys. Raises `key.*`, `apikeys.*`, `seal.wrong_key`."""
    return ApiKeyRing.parse(
        read_secret_file(layout.api_keys, limit=_RING_LIMIT),
        load_pepper(layout, kek),
        max_lifetime_ms=max_lifetime_ms,
    )


def rewrap_secrets(layout: Layout, old: KeyEncryptionKey, new: KeyEncryptionKey) -> None:
    """Bring the pepper, the audit periods and the fingerprints' secrets under `new`; what is there
    already stays.

    Raises VerificationError `seal.wrong_key` for one that opens under neither.
    """
    pepper = read_secret_file(layout.pepper)
    write_atomic(layout.pepper, _rewrapped(pepper, _PEPPER, old, new))
    kept = [
        one
        if one.wrapped is None
        else replace(one, wrapped=_rewrapped(one.wrapped, _context(one.name), old, new))
        for one in _read(layout.audit_periods)
    ]
    if kept:
        write_atomic(layout.audit_periods, _written(kept))
    FingerprintSecrets(layout.fingerprint_secrets).rewrap(
        lambda wrapped, context: _rewrapped(wrapped, context, old, new)
    )


def _rewrapped(
    wrapped: bytes, context: bytes, old: KeyEncryptionKey, new: KeyEncryptionKey
) -> bytes:
    try:
        new.unwrap(wrapped, context)
    except VerificationError:
        return new.wrap(old.unwrap(wrapped, context), context)
    return wrapped


@dataclass(frozen=True, slots=True)
class _Kept:
    """A period as it is stored. Without a wrapped key it was destroyed for good."""

    name: str
    ends: int
    wrapped: bytes | None


class AuditPeriods:
    """One key for each calendar month (UTC), made when the month's first entry needs it.

    Destroying a period's key closes every commitment of that month; nothing brings it back.
    """

    def __init__(
        self, path: Path, kek: KeyEncryptionKey, randomness: Randomness | None = None
    ) -> None:
        self._path = path
        self._kek = kek
        self._randomness = randomness or SystemRandomness()
        self._lock = threading.Lock()
        self._kept = {kept.name: kept for kept in _read(path)}
        self._current: Period | None = None

    def current(self, now: int) -> Period:
        """The period that holds `now`. Raises `audit.period_destroyed` if its key is gone."""
        period = self._current
        if period is not None and now < period.ends and period.name == _month(now):
            return period
        with self._lock:
            name = _month(now)
            if name not in self._kept:
                key = self._randomness.token_bytes(KEY_SIZE)
                wrapped = self._kek.wrap(key, _context(name))
                self._write({**self._kept, name: _Kept(name, _month_end(now), wrapped)})
            self._current = self._open(self._kept[name])
            return self._current

    def find(self, name: str) -> Period:
        """A period by its name. Raises `audit.unknown_period`, `audit.period_destroyed`."""
        kept = self._kept.get(name)
        if kept is None:
            raise InputError("audit.unknown_period", f"There is no audit period {name[:32]!r}.")
        return self._open(kept)

    def destroy(self, name: str, now: int) -> None:
        """Destroy an ended period's key: none of its entries can be opened again, by anybody.

        Raises `audit.unknown_period`, and `audit.period_open` for one that still runs: what is
        yet to be written under its key would be closed from the start.
        """
        with self._lock:
            kept = self._kept.get(name)
            if kept is None:
                raise InputError("audit.unknown_period", f"There is no audit period {name[:32]!r}.")
            if now < kept.ends:
                raise InputError(
                    "audit.period_open",
                    f"The audit period {name} has not ended: entries are still made under its key.",
                    f"Destroy it after {rfc3339(kept.ends)}.",
                )
            self._write({**self._kept, name: _Kept(name, kept.ends, None)})
            self._current = None

    def _open(self, kept: _Kept) -> Period:
        if kept.wrapped is None:
            raise InputError(
                "audit.period_destroyed", f"The key of the audit period {kept.name} was destroyed."
            )
        return Period(kept.name, self._kek.unwrap(kept.wrapped, _context(kept.name)), kept.ends)

    def _write(self, periods: dict[str, _Kept]) -> None:
        write_atomic(self._path, _written(periods.values()))
        self._kept = periods


def _written(periods: Iterable[_Kept]) -> bytes:
    return canonical(
        {
            "schema": _SCHEMA,
            "periods": [
                {
                    "name": kept.name,
                    "ends": kept.ends,
                    "wrapped": None if kept.wrapped is None else b64encode(kept.wrapped).decode(),
                }
                for kept in sorted(periods, key=lambda kept: kept.name)
            ],
        }
    )


def _context(name: str) -> bytes:
    return b"keepstone audit period v1\n" + name.encode()


def _month(now: int) -> str:
    return datetime.fromtimestamp(now // 1000, UTC).strftime("%Y-%m")


def _month_end(now: int) -> int:
    moment = datetime.fromtimestamp(now // 1000, UTC)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


def _read(path: Path) -> list[_Kept]:
    if not path.exists():
        return []
    value = parse_json(read_secret_file(path, limit=_LIMIT), limit=_LIMIT)
    try:
        if value["schema"] != _SCHEMA:
            raise InputError(
                "audit.newer_version", f"{path.name} follows {value['schema']!r}, not {_SCHEMA}."
            )
        return [
            _Kept(
                str(item["name"]),
                int(item["ends"]),
                None if item["wrapped"] is None else b64decode(item["wrapped"], validate=True),
            )
            for item in value["periods"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "audit.malformed_periods",
            f"{path.name} does not list audit periods.",
            "Restore it from a backup.",
        ) from error
