"""`keepstone vault`: the sealed models and the key that opens them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import KEY, STORE, format_option, site_at, workspace_option
from keepstone.cli.output import emit_json, say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference
    from keepstone.vault.stores import StoreAddress


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


@command.command("move")
@click.option("--to", type=STORE, help="The next store: s3://BUCKET/PREFIX?.. or oci://HOST/REPO.")
@click.option("--into-folder", is_flag=True, help="Back into the workspace's own folder.")
@workspace_option
@format_option("json")
def move(to: StoreAddress | None, into_folder: bool, root: Path, style: str) -> int | None:
    """Move the sealed models to another store. Stop the endpoint first.

    The newest sealing of each model is copied and read back from over there; then the workspace
    takes the other store into use in one step. Killed before, it still uses the old one, and the
    same command goes on. Nothing is removed from the old store.
    """
    from keepstone.workspace.moving import move as flow

    if (to is None) != into_folder:
        raise click.UsageError("Choose one of --to and --into-folder.")
    done = flow(site_at(root), to)
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.vault-move/v1",
                "store": done.place,
                "blobs": done.blobs,
                "damaged": list(done.damaged),
            }
        )
    else:
        say(f"{done.blobs} sealed model(s) lie in {done.place} now", mark="ok")
    for name in done.damaged:
        say(f"{name} did not unseal before it was moved: add it again", mark="warn")
    return 1 if done.damaged else None
