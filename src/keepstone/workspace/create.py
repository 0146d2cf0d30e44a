"""Make a workspace: keys, policy, ledger, vault and the local certificate authority."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from keepstone.errors import InputError
from keepstone.files import make_private_directory, storage_errors, sync_directory, write_atomic
from keepstone.identity.apikeys import ApiKeyRing
from keepstone.identity.keystores.reference import KeyReference
from keepstone.ledger import Kind, Ledger, make_entry
from keepstone.policy.parse import profile_text
from keepstone.vault.keks import make_kek
from keepstone.vault.stores import StoreAddress
from keepstone.workspace.keys import create_authority, create_keys
from keepstone.workspace.layout import Layout, WorkspaceIdentity
from keepstone.workspace.secrets import create_pepper
from keepstone.workspace.site import Site
from keepstone.workspace.store import in_use, store_at, write_store_address


def create_workspace(
    site: Site,
    *,
    profile: str,
    hosts: Sequence[str] = (),
    kek: KeyReference | None = None,
    store: StoreAddress | None = None,
) -> WorkspaceIdentity:
    """Make the workspace of `site` under `profile`; it appears whole or not at all.

    `hosts` are names, beyond this machine's loopback, that its certificates may speak for. `kek`
    is a key-encryption key in a token or in KMS; without it, a new one is made in a file. `store`
    is where sealed models will lie; without it, in the workspace itself. Raises InputError
    `workspace.exists`, `policy.unknown_profile`, `tls.bad_host`, `store.in_use`;
    OperationalError `disk.full`, and as the store's `require_usable`.
    """
    layout = site.layout
    if layout.exists() or (layout.root.exists() and any(layout.root.iterdir())):
        raise InputError(
            "workspace.exists",
            f"{layout.root} exists and is not empty.",
            "Name another folder with --workspace.",
        )
    policy = profile_text(profile)
    make_private_directory(layout.root.parent)
    making = Layout(layout.root.with_name(f".{layout.root.name}.{secrets.token_hex(4)}"))
    identity = WorkspaceIdentity(secrets.token_hex(8), site.clock.now_ms())
    if store is not None:
        _require_free(layout, store)
    try:
        _fill(replace(site, layout=making), identity, policy, hosts, kek)
        if store is not None:
            write_store_address(making, store)
        with storage_errors(layout.root):
            # Over an empty folder too; over anything else it fails.
            making.root.rename(layout.root)
            sync_directory(layout.root.parent)
    except BaseException:
        shutil.rmtree(making.root, ignore_errors=True)
        raise
    return identity


def _require_free(layout: Layout, address: StoreAddress) -> None:
    """Return if the store can be used, and no other workspace's models lie there."""
    with closing(store_at(layout, address)) as store:
        store.require_usable()
        for _ in store.addresses():
            raise in_use(store)


def _fill(
    site: Site,
    identity: WorkspaceIdentity,
    policy: bytes,
    hosts: Sequence[str],
    where: KeyReference | None,
) -> None:
    layout, now = site.layout, identity.created
    for folder in (layout.root, layout.keys, layout.ledger.parent, layout.vault, layout.staging):
        make_private_directory(folder)
    keys = create_keys(layout, site.passphrase)
    kek = make_kek(layout.kek, where, passphrase=site.passphrase, access=site.tokens)
    pepper = create_pepper(layout, kek)
    write_atomic(layout.api_keys, ApiKeyRing([], pepper).to_json())
    create_authority(layout, hosts, now, site.passphrase)
    write_atomic(layout.policy, policy)
    with Ledger.create(
        layout.ledger, origin=identity.origin, key=keys.ledger, clock=site.clock
    ) as ledger:
        ledger.append(
            make_entry(
                Kind.EVENT, now, {"event": "workspace.created", "workspace": identity.workspace_id}
            )
        ).wait(10)
    # Last: a folder without it is no workspace.
    write_atomic(layout.identity, identity.to_json())
