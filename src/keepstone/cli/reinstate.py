"""`keepstone reinstate`: lift a model's revocation, as another signer than who revoked it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import signer_option, signing_key, site_at, workspace_option
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.command("reinstate")
@click.argument("model")
@signer_option
@click.option("--reason", required=True, help="Why; it is signed and recorded.")
@workspace_option
def command(model: str, key: KeyReference, reason: str, root: Path) -> None:
    """Lift the standing revocation of MODEL (a name, or its digest).

    The signer must hold a role that may reinstate, and be another than who revoked.
    """
    from keepstone.workspace.statements import reinstate

    done = reinstate(site_at(root), model, signing_key(key), reason)
    say(f"reinstated {done.subject} as entry {done.entry}", mark="ok")
