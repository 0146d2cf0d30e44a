"""`keepstone restore`: a workspace out of a backup, once everything in it checks out."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import site_at, workspace_option
from keepstone.cli.output import say


@click.command("restore")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--unsafe-rollback",
    metavar="REASON",
    help="Accept a backup older than the checkpoint kept outside; REASON is recorded.",
)
@workspace_option
def command(source: Path, unsafe_rollback: str | None, root: Path) -> None:
    """Restore SOURCE into a new workspace folder.

    Every file is held against the backup's manifest, the ledger is verified, and it must not
    be older than the checkpoint kept outside.
    """
    from keepstone.workspace.backup import restore

    site = site_at(root)
    done = restore(site, source, unsafe_rollback=unsafe_rollback)
    say(f"{site.layout.root}: {done.files} files, {done.ledger_size} entries verified", mark="ok")
    if done.elsewhere is not None:
        say(f"The sealed models were not in it: they lie in {done.elsewhere}.")
