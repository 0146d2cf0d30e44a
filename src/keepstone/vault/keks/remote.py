"""A key-encryption key that is not here: its file names where it is, and proves that it is.

Promise: the key that answers is the one that was taken into use. The file holds a check that
this key made, and a key with the same name that cannot open the check is refused. What is
wrapped is bound to this file's own id beside its context, so that two workspaces which share a
key in a token cannot pass for one another. The file names a key only: it can neither name a
library to load nor hold a PIN.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from keepstone.core.canonical import canonical
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError, VerificationError
from keepstone.identity.keystores.reference import (
    FileReference,
    KmsReference,
    TokenReference,
    parse_key_reference,
)
from keepstone.identity.signing import write_secret_file
from keepstone.vault.keks.file import SCHEMA

_ID_BYTES = 16
_CHECK = b"keepstone key-encryption key check v1"
Place = KmsReference | TokenReference


class KeyStore(Protocol):
    """What encrypts under a key that it does not give away. `place` names the key for good."""

    @property
    def place(self) -> Place: ...

    def encrypt(self, data: bytes, context: bytes, randomness: Randomness) -> bytes: ...

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        """Raises VerificationError `seal.wrong_key` where key, context or data is another."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteKek:
    """Wraps the data key of each artifact by way of a key store."""

    key_id: str
    store: KeyStore = field(repr=False, compare=False)

    def wrap(self, data_key: bytes, context: bytes, randomness: Randomness | None = None) -> bytes:
        return self.store.encrypt(data_key, self._bound(context), randomness or SystemRandomness())

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return self.store.decrypt(wrapped, self._bound(context))

    def _bound(self, context: bytes) -> bytes:
        return self.key_id.encode("ascii") + b"\n" + context


def create_kek(path: Path, store: KeyStore, randomness: Randomness | None = None) -> RemoteKek:
    """Take the store's key into use and write the file that names it, mode 0600."""
    key = RemoteKek((randomness or SystemRandomness()).token_bytes(_ID_BYTES).hex(), store)
    document = {
        "schema": SCHEMA,
        "id": key.key_id,
        "reference": str(store.place),
        "check": base64.b64encode(key.wrap(key.key_id.encode("ascii"), _CHECK)).decode("ascii"),
    }
    write_secret_file(path, canonical(document) + b"\n")
    return key


def parse_kek(document: dict[str, Any], find: Callable[[Place], KeyStore]) -> RemoteKek:
    """Open the key that a parsed file names, found by `find`, and hold it to the file's check.

    Raises InputError `key.malformed`; VerificationError `seal.wrong_key`; what `find` raises.
    """
    place = read_reference(document)
    key_id = document["id"]
    key = RemoteKek(key_id, find(place))
    try:
        check = base64.b64decode(document["check"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise malformed("its check is not base64") from error
    if not hmac.compare_digest(key.unwrap(check, _CHECK), key_id.encode("ascii")):
        raise wrong_key()
    return key


def read_reference(document: dict[str, Any]) -> Place:
    """Where the key is. Raises InputError `key.malformed`, `key.bad_reference`."""
    match document:
        case {
            "schema": str() as schema,
            "id": str() as key_id,
            "reference": str() as text,
            "check": str(),
        } if len(document) == 4 and schema == SCHEMA:
            place = parse_key_reference(text)
        case _:
            raise malformed("it has missing or unknown members")
    if len(key_id) != 2 * _ID_BYTES or not set(key_id) <= set("0123456789abcdef"):
        raise malformed("its id is none")
    # A file that came with a backup must not choose which library this process loads.
    if isinstance(place, FileReference) or str(place) != text:
        raise malformed("it says more than which key")
    return place


def malformed(why: str) -> InputError:
    return InputError(
        "key.malformed",
        f"The file of the key-encryption key cannot be used: {why}.",
        "Restore the key file from a backup.",
    )


def wrong_key() -> VerificationError:
    return VerificationError(
        "seal.wrong_key",
        "This was not wrapped by this key-encryption key for this use.",
        "Name the key that the vault was sealed under, or restore both from one backup.",
    )
