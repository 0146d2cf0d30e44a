"""Another key-encryption key for the whole workspace, and back on the road after a crash.

The new key's file lies beside the old one until everything opens under it, and then takes its
place in one step. A rotation that was cut short is finished by whoever owns the workspace next,
before anything else is opened: until then each thing opens under one of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keepstone.errors import OperationalError
from keepstone.files import storage_errors, sync_directory
from keepstone.identity.keystores.reference import KeyReference
from keepstone.vault.keks import make_kek, open_kek, reference_of
from keepstone.vault.keys import KeyEncryptionKey
from keepstone.vault.rotate import Rewrapped, rewrap_all
from keepstone.workspace.layout import Layout
from keepstone.workspace.secrets import rewrap_secrets
from keepstone.workspace.site import Site
from keepstone.workspace.store import opened_store

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What happened: the ids of both keys, and what was wrapped anew."""

    old: str
    new: str
    rewrapped: Rewrapped


def current_kek(site: Site) -> KeyEncryptionKey:
    """The key-encryption key in force, for a reader beside the owner.

    Raises OperationalError `kek.rotation_unfinished`; else as `open_kek`.
    """
    if site.layout.next_kek.exists():
        raise OperationalError(
            "kek.rotation_unfinished",
            "The key-encryption key is being replaced, or was when a process was killed.",
            "Wait, or run `keepstone vault rotate --finish`.",
        )
    return open_kek(site.layout.kek, passphrase=site.passphrase, access=site.tokens)


def begin_rotation(site: Site, to: KeyReference | None, *, into_file: bool) -> None:
    """Take the next key into use, beside the one in force: it appears whole or not at all.

    `to` names it, `into_file` asks for a new one in a file. Without either it is of the kind in
    force: a new one in a file, or the same key of a token or of KMS, checked anew.
    """
    layout = site.layout
    where = None if into_file else to or reference_of(layout.kek)
    # What a killed process left under this name, nothing was ever wrapped under.
    making = layout.keys / ".kek.making.json"
    making.unlink(missing_ok=True)
    make_kek(making, where, passphrase=site.passphrase, access=site.tokens)
    with storage_errors(layout.next_kek):
        making.replace(layout.next_kek)
        sync_directory(layout.keys)


def finish_rotation(
    site: Site, progress: Progress = lambda done: None
) -> tuple[KeyEncryptionKey, Rotated | None]:
    """Finish what was begun, if anything was; the key in force, and what was done.

    Only the workspace's owner may call it. Raises OperationalError where a key or the store
    cannot be reached: nothing is lost then, and it goes on where it stopped.
    """
    layout = site.layout
    old = open_kek(layout.kek, passphrase=site.passphrase, access=site.tokens)
    if not layout.next_kek.exists():
        return old, None
    new = open_kek(layout.next_kek, passphrase=site.passphrase, access=site.tokens)
    with opened_store(layout) as store:
        rewrapped = rewrap_all(store, old, new, progress)
    rewrap_secrets(layout, old, new)
    _put_in_force(layout)
    return new, Rotated(old.key_id, new.key_id, rewrapped)


def _put_in_force(layout: Layout) -> None:
    with storage_errors(layout.kek):
        layout.next_kek.replace(layout.kek)
        sync_directory(layout.keys)
