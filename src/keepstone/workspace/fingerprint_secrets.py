"""The secret of each fingerprint, wrapped under the vault's key-encryption key."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from keepstone.core.canonical import canonical, parse_json
from keepstone.errors import InputError
from keepstone.files import write_atomic
from keepstone.identity.signing import read_secret_file
from keepstone.vault.keys import KeyEncryptionKey

_SCHEMA = "keepstone.fingerprint-secrets/v1"
_LIMIT = 8 << 20


class FingerprintSecrets:
    """The file `path`. Only the workspace's owner changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, name: str, seed: bytes, kek: KeyEncryptionKey) -> None:
        """Keep `seed` as the secret of the fingerprint `name`. Raises `fingerprint.exists`."""
        kept = self._read()
        if name in kept:
            raise InputError("fingerprint.exists", f"There is a fingerprint {name[:64]!r} already.")
        self._write({**kept, name: kek.wrap(seed, _context(name))})

    def find(self, name: str, kek: KeyEncryptionKey) -> bytes:
        """Raises InputError `fingerprint.unknown`, VerificationError `seal.wrong_key`."""
        wrapped = self._read().get(name)
        if wrapped is None:
            raise InputError(
                "fingerprint.unknown",
                f"There is no fingerprint {name[:64]!r} in this workspace.",
                "See `keepstone fingerprint list`.",
            )
        return kek.unwrap(wrapped, _context(name))

    def rewrap(self, anew: Callable[[bytes, bytes], bytes]) -> None:
        """Replace each wrapped secret by `anew(wrapped, context)`."""
        kept = self._read()
        if kept:
            self._write({name: anew(wrapped, _context(name)) for name, wrapped in kept.items()})

    def _read(self) -> dict[str, bytes]:
        if not self._path.exists():
            return {}
        value = parse_json(read_secret_file(self._path, limit=_LIMIT), limit=_LIMIT)
        try:
            if value["schema"] != _SCHEMA:
                raise InputError(
                    "fingerprint.newer_version",
                    f"{self._path.name} follows {str(value['schema'])[:64]!r}, not {_SCHEMA}.",
                )
            return {
                str(name): b64decode(wrapped, validate=True)
                for name, wrapped in value["secrets"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "fingerprint.malformed",
                f"{self._path.name} does not list secrets.",
                "Restore it from a backup.",
            ) from error

    def _write(self, kept: Mapping[str, bytes]) -> None:
        secrets = {name: b64encode(wrapped).decode() for name, wrapped in kept.items()}
        write_atomic(self._path, canonical({"schema": _SCHEMA, "secrets": secrets}))


def _context(name: str) -> bytes:
    return b"keepstone fingerprint secret v1\n" + name.encode()
