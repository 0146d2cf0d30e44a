"""`keepstone backup`: the whole workspace in one file."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import site_at, workspace_option
from keepstone.cli.output import say


@click.command("backup")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@workspace_option
def command(target: Path, root: Path) -> None:
    """Write the workspace into TARGET (mode 0600), beside a running owner if there is one.

    The ledger is one consistent snapshot. The file holds the keys: keep it as you keep them.
    """
    from keepstone.workspace.backup import back_up

    done = back_up(site_at(root), target)
    say(
        f"{target}: {done.files} files, {done.bytes:,} bytes, {done.ledger_size} entries", mark="ok"
    )
    if done.elsewhere is not None:
        say(f"The sealed models are not in it: they lie in {done.elsewhere}.", mark="warn")
    if not done.keys_encrypted:
        say(
            "The keys in it are not under a passphrase: who reads it can open the vault.",
            mark="warn",
        )
