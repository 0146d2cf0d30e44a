"""`keepstone init`: a workspace with keys, policy, ledger, vault and a local CA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import KEY, STORE, site_at, workspace_option
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference
    from keepstone.vault.stores import StoreAddress


@click.command("init")
@click.option(
    "--profile",
    type=click.Choice(["local", "production"]),
    default="local",
    show_default=True,
    help="Which policy to begin with.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="A host name or address, beyond this machine's loopback, that the local CA may"
    " certify; may be given again.",
)
@click.option(
    "--kek",
    type=KEY,
    help="Key-encryption key of the vault: pkcs11:URI or awskms:///KEY."
    "  [default: a new one, in a file]",
)
@click.option(
    "--store",
    type=STORE,
    help="Where sealed models lie: s3://BUCKET/PREFIX?region=..&endpoint=..&lock=governance"
    "&retain=30d, or oci://HOST/REPOSITORY.  [default: in the workspace]",
)
@workspace_option
def command(
    profile: str,
    hosts: tuple[str, ...],
    kek: KeyReference | None,
    store: StoreAddress | None,
    root: Path,
) -> None:
    """Make a workspace: keys, policy, ledger, vault and a local certificate authority.

    The keys are encrypted when KEEPSTONE_PASSPHRASE is set. `keepstone up` does this too where
    there is no workspace yet.
    """
    from keepstone.workspace.create import create_workspace

    site = site_at(root)
    identity = create_workspace(site, profile=profile, hosts=hosts, kek=kek, store=store)
    say(f"workspace {identity.workspace_id} at {site.layout.root}, profile {profile}", mark="ok")
    say(f"Its policy is {site.layout.policy}: read it, it is short.")
    if store is not None:
        say(f"Its sealed models lie in {store}.")
    if site.passphrase is None:
        say(
            "Its keys are not under a passphrase: set KEEPSTONE_PASSPHRASE to have that.",
            mark="warn",
        )
