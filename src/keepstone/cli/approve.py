"""`keepstone approve`: an approver's signature under one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keepstone.cli.asking import Asking, registry_options
from keepstone.cli.duration import DURATION
from keepstone.cli.options import signer_option, signing_key, site_at
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.command("approve")
@click.argument("model")
@signer_option
@click.option("--reason", required=True, help="Why; it is signed and recorded.")
@click.option("--lifetime", type=DURATION, help="How long it holds.  [default: as the policy says]")
@click.option(
    "--at",
    "endpoint",
    help="Only there: an alias or stage of the registry, `local` for an endpoint, `library` for"
    " programs.  [default: everywhere]",
)
@registry_options
def command(
    model: str,
    key: KeyReference,
    reason: str,
    lifetime: int | None,
    endpoint: str | None,
    asking: Asking,
) -> None:
    """Approve MODEL (a name, its digest, or a version such as NAME@3) to be served under its name.

    What is approved is the version's digest, or the one that Keepstone saw last under the name; it
    is printed.
    """
    from keepstone.workspace.statements import approve

    if asking.url is not None:
        subject, entry = asking.server().approve(
            model, signing_key(key), reason, lifetime, endpoint
        )
        say(f"approved {subject} as entry {entry}", mark="ok")
        return
    done = approve(site_at(asking.root), model, signing_key(key), reason, lifetime, endpoint)
    say(f"approved {done.subject} as entry {done.entry}", mark="ok")
