"""`keepstone approve`: an approver's signature under one model."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.duration import DURATION
from keepstone.cli.options import passphrase, signer_option, site_at, workspace_option
from keepstone.cli.output import say


@click.command("approve")
@click.argument("model")
@signer_option
@click.option("--reason", required=True, help="Why; it is signed and recorded.")
@click.option("--lifetime", type=DURATION, help="How long it holds.  [default: as the policy says]")
@workspace_option
def command(model: str, key: Path, reason: str, lifetime: int | None, root: Path) -> None:
    """Approve MODEL (a name, or its digest) to be served under its name.

    What is approved is the digest that Keepstone saw last under the name, and is printed.
    """
    from keepstone.identity.signing import load_private_key
    from keepstone.workspace.statements import approve

    done = approve(site_at(root), model, load_private_key(key, passphrase()), reason, lifetime)
    say(f"approved {done.subject} as entry {done.entry}", mark="ok")
