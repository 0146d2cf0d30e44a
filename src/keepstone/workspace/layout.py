"""Where everything in a workspace lies, and which version of that order it follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from keepstone.core.canonical import canonical, parse_json
from keepstone.errors import InputError, OperationalError

SCHEMA = "keepstone.workspace/v1"
_SCHEMA = re.compile(r"keepstone\.workspace/v([0-9]{1,9})\Z")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one workspace. Nothing is opened here."""

    root: Path

    @property
    def identity(self) -> Path:
        return self.root / "workspace.json"

    @property
    def policy(self) -> Path:
        return self.root / "policy.toml"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def kek(self) -> Path:
        return self.root / "keys" / "kek.json"

    @property
    def next_kek(self) -> Path:
        """The key-encryption key that a rotation is on its way to; see `kek`."""
        return self.root / "keys" / "kek.next.json"

    @property
    def pepper(self) -> Path:
        return self.root / "keys" / "pepper"

    @property
    def audit_periods(self) -> Path:
        return self.root / "keys" / "audit-periods.json"

    @property
    def api_keys(self) -> Path:
        return self.root / "keys" / "api-keys.json"

    @property
    def fingerprint_secrets(self) -> Path:
        return self.root / "keys" / "fingerprints.json"

    @property
    def fingerprints(self) -> Path:
        """The secret questions of each fingerprint, encrypted under its own secret."""
        return self.root / "fingerprints"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger" / "ledger.db"

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def store(self) -> Path:
        """Which store the sealed models lie in, where it is not `vault`; see `store`."""
        return self.root / "store.json"

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    @property
    def reserve(self) -> Path:
        return self.root / "ledger" / "reserve"

    @property
    def authority(self) -> Path:
        """The certificate of the local authority, for clients."""
        return self.root / "ca.pem"

    @property
    def authority_key(self) -> Path:
        return self.root / "keys" / "ca.pem"

    @property
    def lock(self) -> Path:
        return self.root / "owner.lock"

    @property
    def socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def api_key_file(self) -> Path:
        """Where `up` leaves the header of the key that it minted."""
        return self.root / "api-key.header"

    @property
    def rollback_note(self) -> Path:
        """Why a restored backup was accepted though the ledger had gone on; see `backup`."""
        return self.root / "accepted-rollback"

    def exists(self) -> bool:
        return self.identity.exists()


@dataclass(frozen=True, slots=True)
class WorkspaceIdentity:
    """What never changes about a workspace. `origin` names its ledger in every checkpoint."""

    workspace_id: str
    created: int

    @property
    def origin(self) -> str:
        return f"keepstone/{self.workspace_id}"

    def to_json(self) -> bytes:
        return canonical({"schema": SCHEMA, "id": self.workspace_id, "created": self.created})


def read_identity(layout: Layout) -> WorkspaceIdentity:
    """Read which workspace this is.

    Raises InputError `workspace.missing`, `workspace.malformed`, `workspace.newer_version`.
    """
    try:
        data = parse_json(layout.identity.read_bytes())
    except InputError:
        data = None
    except FileNotFoundError as error:
        raise InputError(
            "workspace.missing",
            f"There is no workspace at {layout.root}.",
            "Make one with `keepstone init`, or name one with --workspace.",
        ) from error
    except OSError as error:
        raise OperationalError(
            "workspace.unreadable", f"Cannot read {layout.identity}: {error.strerror}."
        ) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    version = _SCHEMA.match(schema) if isinstance(schema, str) else None
    if version and int(version[1]) > _VERSION:
        raise InputError(
            "workspace.newer_version",
            f"The workspace follows {schema}; this Keepstone knows {SCHEMA}.",
            "Use the Keepstone that made it, or a newer one.",
        )
    match data:
        case {"schema": str() as found, "id": str() as workspace_id, "created": int() as created}:
            if found == SCHEMA and created >= 0 and re.fullmatch(r"[0-9a-f]{16}", workspace_id):
                return WorkspaceIdentity(workspace_id, created)
    raise InputError(
        "workspace.malformed",
        f"{layout.identity} does not describe a workspace.",
        "Restore it from a backup.",
    )
