"""`keepstone vault`: the sealed models and the key that opens them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import KEY, format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.group("vault")
def command() -> None:
    """Look after the sealed models and the key that opens them."""


@command.command("rotate")
@click.option("--to", type=KEY, help="The next key-encryption key: pkcs11:URI or awskms:///KEY.")
@click.option("--into-file", is_flag=True, help="The next one is new, and kept in a file.")
@click.option("--finish", is_flag=True, help="Only finish a rotation that was cut short.")
@workspace_option
@format_option("json")
def rotate(
    to: KeyReference | None, into_file: bool, finish: bool, root: Path, style: str
) -> int | None:
    """Replace the key-encryption key of the vault. Stop the endpoint first.

    No model is encrypted again: each data key is wrapped under the next key, and so are the
    secrets beside the vault. Without an option the next key is of the kind in force. A rotation
    that is cut short goes on when the workspace is opened next.
    """
    from keepstone.workspace import rotate as flow

    if (to is not None) + into_file + finish > 1:
        raise click.UsageError("Choose one of --to, --into-file and --finish.")
    site = site_at(root)
    if finish:
        flow.finish(site)
        say("no rotation is unfinished", mark="ok")
        return None
    done = flow.rotate(site, to, into_file=into_file)
    damaged = done.rewrapped.damaged
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.vault-rotate/v1",
                "old": done.old,
                "new": done.new,
                "blobs": done.rewrapped.blobs,
                "damaged": list(damaged),
            }
        )
    else:
        say(f"{done.rewrapped.blobs} sealed model(s) are under key {done.new}", mark="ok")
    for name in damaged:
        say(f"{name} opens under neither key: add it again", mark="warn")
    return 1 if damaged else None
