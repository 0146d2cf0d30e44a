"""A key-encryption key inside a PKCS#11 token: AES-256-GCM there, the key never leaves.

A key that the token would give away, or that is no AES-256 key, is refused when it is opened.
Tried against SoftHSM 2.6.

Source: PKCS #11 v2.40, CKM_AES_GCM; the context is its additional authenticated data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keepstone.core.ports import Randomness
from keepstone.errors import InputError, OperationalError
from keepstone.identity.keystores.pkcs11 import TokenSession, find_one, open_session
from keepstone.identity.keystores.reference import TokenAccess, TokenReference
from keepstone.vault.keks.remote import wrong_key

_NONCE, _TAG_BITS, _KEY_BYTES = 12, 128, 32


@dataclass(frozen=True, slots=True)
class TokenStore:
    """One AES key of a token."""

    place: TokenReference
    _session: TokenSession = field(repr=False, compare=False)
    _handle: Any = field(repr=False, compare=False)

    def encrypt(self, data: bytes, context: bytes, randomness: Randomness) -> bytes:
        """Nonce, then ciphertext and tag."""
        nonce = randomness.token_bytes(_NONCE)
        with self._session.use():
            sealed = self._handle.encrypt(data, **_gcm(nonce, context))
        return nonce + bytes(sealed)

    def decrypt(self, data: bytes, context: bytes) -> bytes:
        import pkcs11.exceptions as refusals

        if len(data) < _NONCE + _TAG_BITS // 8:
            raise wrong_key()
        with self._session.use():
            try:
                opened = self._handle.decrypt(data[_NONCE:], **_gcm(data[:_NONCE], context))
            except (
                # Tokens do not agree on what a wrong tag is called; SoftHSM's is the last one.
                refusals.EncryptedDataInvalid,
                refusals.EncryptedDataLenRange,
                refusals.GeneralError,
            ) as error:
                raise wrong_key() from error
        return bytes(opened)


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    import pkcs11

    parameters = pkcs11.GCMParams(nonce, context, _TAG_BITS)
    return {"mechanism": pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}


def open_token_store(reference: TokenReference, access: TokenAccess) -> TokenStore:
    """Find the AES-256 key that `reference` names.

    Raises as `open_session`, and InputError `key.missing`, `key.ambiguous`, `kek.unsupported`;
    OperationalError `kek.extractable`.
    """
    session = open_session(reference, access)
    import pkcs11

    with session.use() as raw:
        handle = find_one(raw, reference, pkcs11.ObjectClass.SECRET_KEY)
        kind, size = handle.key_type, handle[pkcs11.Attribute.VALUE_LEN]
        given_away = handle[pkcs11.Attribute.EXTRACTABLE] or not handle[pkcs11.Attribute.SENSITIVE]
    if kind is not pkcs11.KeyType.AES or size != _KEY_BYTES:
        raise InputError(
            "kek.unsupported",
            "The token's key is not an AES key of 256 bits.",
            "Make one with `pkcs11-tool --keygen --key-type AES:32 --sensitive`.",
        )
    if given_away:
        raise OperationalError(
            "kek.extractable",
            "The token would give the key away: it is extractable, or not sensitive.",
            "Make one with `pkcs11-tool --keygen --key-type AES:32 --sensitive`.",
        )
    return TokenStore(reference, session, handle)
