"""EC keys inside a PKCS#11 token: the token signs, the private key never leaves it.

Promise: the key that signs is the one that its URI names, exactly one; a signature that the
token got wrong is refused here and never leaves as ours. Tried against SoftHSM 2.6.

Source: PKCS #11 v2.40 (CKM_ECDSA: r and s, each as long as the order), RFC 7512 for names.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from keepstone.errors import InputError, OperationalError
from keepstone.identity.keystores.reference import TokenAccess, TokenReference
from keepstone.identity.signing import VerifyingKey, read_secret_file

if TYPE_CHECKING:
    import pkcs11

_MAX_PIN = 256


@dataclass(slots=True)
class TokenSession:
    """A login to one token. PKCS#11 allows one per process, and one operation at a time."""

    raw: Any
    _pin: str = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def use(self) -> Iterator[Any]:
        """The session, for this thread alone; what the token says comes out with a code."""
        import pkcs11

        with self._lock:
            try:
                yield self.raw
            except pkcs11.exceptions.PKCS11Error as error:
                raise token_failed(error) from error

    def require_pin(self, pin: str) -> None:
        if not hmac.compare_digest(self._pin.encode(), pin.encode()):
            raise _refused_pin()


_sessions: dict[tuple[Path, bytes], TokenSession] = {}
_sessions_lock = threading.Lock()


def open_session(reference: TokenReference, access: TokenAccess) -> TokenSession:
    """Log in to the token that `reference` names; whoever asks again shares the login.

    Raises OperationalError `extra.pkcs11`, `hsm.*`; InputError `hsm.no_pin`, and as
    `read_secret_file` where the PIN comes from a file.
    """
    pkcs11 = _library()
    module, pin = _module(reference, access), _pin(reference, access)
    with _sessions_lock:
        try:
            token = _token(pkcs11, module, reference)
            known = _sessions.get((module, token.serial))
            if known is not None:
                known.require_pin(pin)
                return known
            opened = TokenSession(token.open(user_pin=pin), pin)
        except pkcs11.exceptions.PinIncorrect as error:
            raise _refused_pin() from error
        except pkcs11.exceptions.PKCS11Error as error:
            raise token_failed(error) from error
        _sessions[module, token.serial] = opened
        return opened


def _library() -> Any:
    try:
        import pkcs11
    except ImportError as error:
        raise OperationalError(
            "extra.pkcs11",
            "Keys in a PKCS#11 token need the extra `pkcs11`, which is not installed.",
            "pip install 'keepstone[pkcs11]'",
        ) from error
    return pkcs11


def _module(reference: TokenReference, access: TokenAccess) -> Path:
    module = reference.module or access.module
    if module is None:
        raise InputError(
            "hsm.no_module",
            "Nothing says which driver the token has.",
            "Set KEEPSTONE_PKCS11_MODULE to the path of its PKCS#11 library.",
        )
    return module


def _pin(reference: TokenReference, access: TokenAccess) -> str:
    if reference.pin_source is not None:
        pin = read_secret_file(reference.pin_source, limit=_MAX_PIN).decode("utf-8", "replace")
        return pin.rstrip("\r\n")
    if not access.pin:
        raise InputError(
            "hsm.no_pin",
            "The token needs a PIN, and none is given.",
            "Set KEEPSTONE_PIN, or KEEPSTONE_PIN_FILE to a file of mode 0600.",
        )
    return access.pin


def _token(pkcs11: Any, module: Path, reference: TokenReference) -> Any:
    try:
        library = pkcs11.lib(str(module))
    except (RuntimeError, OSError) as error:
        raise OperationalError(
            "hsm.bad_module",
            f"The PKCS#11 library {module} cannot be loaded: {error}.",
            "Set KEEPSTONE_PKCS11_MODULE to the path of the token's driver.",
        ) from error
    found = [
        token
        for token in library.get_tokens(token_label=reference.token)
        if reference.serial in (None, token.serial.decode("utf-8", "replace"))
        and reference.manufacturer in (None, token.manufacturer_id)
        and reference.model in (None, token.model)
    ]
    if len(found) != 1:
        raise OperationalError(
            "hsm.no_token",
            f"{'Several tokens are' if found else 'No token is'} what {reference} names.",
            "List them with `pkcs11-tool --list-token-slots`, and name one by its serial.",
        )
    return found[0]


def token_failed(error: Exception) -> OperationalError:
    return OperationalError(
        "hsm.failed",
        f"The token refused, or failed: {type(error).__name__} {error}".rstrip() + ".",
        "Look whether the token is there and unlocked, then try again.",
    )


def _refused_pin() -> OperationalError:
    return OperationalError(
        "hsm.wrong_pin",
        "The token refuses the PIN.",
        "Try with the right one: a token locks itself after a few wrong ones.",
    )


def find_one(session: Any, reference: TokenReference, kind: pkcs11.ObjectClass) -> Any:
    """The one object of `kind` that has the reference's label and id.

    Raises InputError `key.missing`, `key.ambiguous`.
    """
    import pkcs11

    wanted: dict[Any, Any] = {pkcs11.Attribute.CLASS: kind}
    if reference.label is not None:
        wanted[pkcs11.Attribute.LABEL] = reference.label
    if reference.key_id is not None:
        wanted[pkcs11.Attribute.ID] = reference.key_id
    objects = list(session.get_objects(wanted))
    if not objects:
        raise InputError("key.missing", f"The token holds no such {kind.name} as {reference}.")
    if len(objects) > 1:
        raise InputError(
            "key.ambiguous",
            f"The token holds several keys that {reference} could mean.",
            "Name it by `id` and `object` both.",
        )
    return objects[0]


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A signing key inside a token."""

    reference: TokenReference
    verifying: VerifyingKey
    _session: TokenSession = field(repr=False, compare=False)
    _handle: Any = field(repr=False, compare=False)

    @property
    def key_id(self) -> str:
        return self.verifying.key_id

    def sign(self, message: bytes) -> bytes:
        """Sign, hashing here: many tokens cannot hash. Raises `hsm.failed`, `signature.invalid`."""
        import pkcs11

        digest = hashlib.new(self.verifying.algorithm.hash_name, message).digest()
        with self._session.use():
            raw = self._handle.sign(digest, mechanism=pkcs11.Mechanism.ECDSA)
        half = len(raw) // 2
        signature = encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )
        self.verifying.verify(signature, message)
        return signature


def open_token_key(reference: TokenReference, access: TokenAccess) -> TokenKey:
    """Find the EC key that `reference` names and its public half.

    Raises as `open_session`, and InputError `key.missing`, `key.ambiguous`, `key.unsupported`.
    """
    session = open_session(reference, access)
    import pkcs11
    from pkcs11.util.ec import encode_ec_public_key

    with session.use() as raw:
        private = find_one(raw, reference, pkcs11.ObjectClass.PRIVATE_KEY)
        public = find_one(raw, reference, pkcs11.ObjectClass.PUBLIC_KEY)
        if private.key_type is not pkcs11.KeyType.EC or public.key_type is not pkcs11.KeyType.EC:
            raise _not_ec()
        try:
            encoded = encode_ec_public_key(public)
        except ValueError as error:
            raise _not_ec() from error
    return TokenKey(reference, _verifying(encoded), session, private)


def _verifying(encoded: bytes) -> VerifyingKey:
    try:
        public = load_der_public_key(encoded)
        return VerifyingKey.of(public)  # type: ignore[arg-type]  # of() refuses other kinds
    except (ValueError, UnsupportedAlgorithm, InputError) as error:
        raise _not_ec() from error


def _not_ec() -> InputError:
    return InputError(
        "key.unsupported",
        "The token's key is not an EC key on P-256, P-384 or P-521.",
        "Make one with `pkcs11-tool --keypairgen --key-type EC:secp256r1`.",
    )
