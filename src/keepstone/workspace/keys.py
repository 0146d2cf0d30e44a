"""The workspace's own signing keys, one per role, each in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.identity.signing import (
    Algorithm,
    SigningKey,
    load_private_key,
    write_secret_file,
)
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
        (layout.keys / f"{role}.pub.pem").write_bytes(key.verifying.pem)
    return WorkspaceKeys(**keys)


def load_keys(layout: Layout, passphrase: bytes | None) -> WorkspaceKeys:
    """Read every key. Raises `key.missing`, `key.open_permissions`, `key.passphrase`."""
    return WorkspaceKeys(
        **{role: load_private_key(layout.keys / f"{role}.pem", passphrase) for role in _ALGORITHMS}
    )
