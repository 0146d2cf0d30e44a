"""`keepstone revoke`: a standing denial, or the end of a statement or key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.options import signer_option, signing_key, site_at
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.command("revoke")
@click.argument("target")
@signer_option
@click.option("--reason", required=True, help="Why; it is signed and recorded.")
@click.option(
    "--kind",
    type=click.Choice(["artifact", "statement", "key"]),
    default="artifact",
    show_default=True,
    help="What TARGET names.",
)
@registry_options
def command(target: str, key: KeyReference, reason: str, kind: str, asking: Asking) -> None:
    """Revoke TARGET: a model (name, digest, or a version such as NAME@3 or NAME@ALIAS), a statement
    (entry id or digest) or a key (id).

    A digest is the artifact's, or the SHA-256 of a model that is one file, as `sha256sum` prints
    it; either is denied also before it was ever seen here.

    Serving stops first, then it is recorded. A revoked digest stays denied whatever evidence
    comes later; only `keepstone reinstate`, by another signer, lifts it.
    """
    from keepstone.workspace.statements import revoke

    if asking.url is not None:
        if kind != "artifact":
            raise click.UsageError("--registry takes revocations of versions: NAME@3, NAME@ALIAS.")
        subject, entry = asking.server().revoke(target, signing_key(key), reason)
        say(f"revoked {subject} as entry {entry}", mark="ok")
        return
    done = revoke(site_at(asking.root), kind, target, signing_key(key), reason)
    say(f"revoked {done.subject} as entry {done.entry}", mark="ok")
