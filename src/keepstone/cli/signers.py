"""`keepstone signers`: whose statements count, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import (
    KEY,
    format_option,
    passphrase,
    signing_key,
    site_at,
    workspace_option,
)
from keepstone.cli.output import emit_json, say, table

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


@click.group("signers")
def command() -> None:
    """Make signing keys, and bind public keys to roles in the policy file."""


@command.command("create")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the private key goes (PEM, mode 0600); the public key goes beside it, as .pub.pem.",
)
def create(out: Path) -> None:
    """Make an EC P-256 signing key, outside any workspace.

    It is encrypted when KEEPSTONE_PASSPHRASE is set.
    """
    from keepstone.files import write_atomic
    from keepstone.identity.signing import SigningKey, write_secret_file

    key = SigningKey.generate()
    write_secret_file(out, key.to_pem(passphrase()))
    public = out.with_suffix(".pub.pem")
    write_atomic(public, key.verifying.pem, mode=0o644)
    click.echo(public)
    say(f"key {key.key_id[:16]}: {out} (keep it away from the workspace)", mark="ok")


@command.command("public-key")
@click.argument("key", type=KEY)
def public_key(key: KeyReference) -> None:
    """Print the public key of KEY (a file, pkcs11:URI, or awskms:///KEY) as PEM.

    `keepstone signers add` takes it, and so does `keepstone verify`.
    """
    click.echo(signing_key(key).verifying.pem.decode(), nl=False)


@command.command("add")
@click.argument("name")
@click.argument("public_key", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    help="A role of the policy file; may be given again.",
)
@workspace_option
def add(name: str, public_key: Path, roles: tuple[str, ...], root: Path) -> None:
    """Let NAME, the holder of PUBLIC_KEY, state what ROLE may state.

    Appends to the policy file; the change is recorded, and admissions are decided again.
    """
    from keepstone.identity.signing import load_public_key
    from keepstone.workspace.operations import perform

    key = load_public_key(public_key)
    perform(
        site_at(root),
        "signers.add",
        {"name": name, "roles": list(roles), "public_key": key.pem.decode()},
    )
    say(f"{name} ({key.key_id[:16]}) is now {', '.join(roles)}", mark="ok")


@command.command("list")
@workspace_option
@format_option("json")
def list_signers(root: Path, style: str) -> None:
    """List the signers of the policy file and the workspace's own."""
    from keepstone.workspace.reading import read_workspace

    with read_workspace(site_at(root)) as workspace:
        signers = [
            {"name": signer.name, "role": signer.role, "key_id": key_id}
            for key_id, signer in workspace.trust.signers.items()
        ]
    if style == "json":
        emit_json({"schema": "keepstone.signers/v1", "signers": signers})
        return
    rows = [(signer["name"], signer["role"], signer["key_id"]) for signer in signers]
    click.echo(table(rows, ("name", "role", "key")))
