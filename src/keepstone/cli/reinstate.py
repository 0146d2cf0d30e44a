"""`keepstone reinstate`: lift a model's revocation, as another signer than who revoked it."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import passphrase, signer_option, site_at, workspace_option
from keepstone.cli.output import say


@click.command("reinstate")
@click.argument("model")
@signer_option
@click.option("--reason", required=True, help="Why; it is signed and recorded.")
@workspace_option
def command(model: str, key: Path, reason: str, root: Path) -> None:
    """Lift the standing revocation of MODEL (a name, or its digest).

    The signer must hold a role that may reinstate, and be another than who revoked.
    """
    from keepstone.identity.signing import load_private_key
    from keepstone.workspace.statements import reinstate

    done = reinstate(site_at(root), model, load_private_key(key, passphrase()), reason)
    say(f"reinstated {done.subject} as entry {done.entry}", mark="ok")
