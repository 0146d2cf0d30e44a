"""The workspace's own signing keys, one per role, each in a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepstone.errors import InputError
from keepstone.files import write_atomic
from keepstone.identity.signing import (
    Algorithm,
    SigningKey,
    load_private_key,
    write_secret_file,
)
from keepstone.identity.tls import Authority, create_ca
from keepstone.workspace.layout import Layout

# Separate keys carry separate roles: what the observer saw, what the gate admits, where the
# ledger stands, who holds a token, which certificate is ours.
_ALGORITHMS = {
    "observer": Algorithm.P256,
    "gate": Algorithm.P256,
    "ledger": Algorithm.ED25519,
    "token": Algorithm.ED25519,
}


@dataclass(frozen=True, slots=True)
class WorkspaceKeys:
    observer: SigningKey
    gate: SigningKey
    ledger: SigningKey
    token: SigningKey


def create_keys(layout: Layout, passphrase: bytes | None) -> WorkspaceKeys:
    """Make every key of the workspace, encrypted where a passphrase is given."""
    keys = {role: SigningKey.generate(algorithm) for role, algorithm in _ALGORITHMS.items()}
    for role, key in keys.items():
        write_secret_file(layout.keys / f"{role}.pem", key.to_pem(passphrase))
        write_atomic(layout.keys / f"{role}.pub.pem", key.verifying.pem, mode=0o644)
    return WorkspaceKeys(**keys)


def load_keys(layout: Layout, passphrase: bytes | None) -> WorkspaceKeys:
    """Read every key. Raises `key.missing`, `key.open_permissions`, `key.passphrase`."""
    return WorkspaceKeys(
        **{role: load_private_key(layout.keys / f"{role}.pem", passphrase) for role in _ALGORITHMS}
    )


def create_authority(
    layout: Layout, hosts: Sequence[str], now: int, passphrase: bytes | None
) -> None:
    """Make the local certificate authority for this machine and `hosts`."""
    authority = create_ca(list(hosts), now)
    write_secret_file(layout.authority_key, authority.key.to_pem(passphrase))
    write_atomic(layout.authority, authority.certificate_pem, mode=0o644)


def load_authority(layout: Layout, passphrase: bytes | None) -> Authority:
    """Read the local certificate authority. Raises `key.*`, `tls.*`."""
    key = load_private_key(layout.authority_key, passphrase)
    try:
        certificate = layout.authority.read_bytes()
    except OSError as error:
        raise InputError(
            "tls.missing",
            f"Cannot read {layout.authority}: {error.strerror}.",
            f"Restore it, or remove {layout.authority_key} too: `keepstone up` makes a new one.",
        ) from error
    return Authority.load(certificate, key)
