"""`keepstone signers`: whose statements count, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import (
    KEY,
    format_option,
    passphrase,
    read_option_file,
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
@click.argument("public_key", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    help="A role of the policy file; may be given again.",
)
@click.option(
    "--trust-roots",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of a key: authorities (PEM) that certify NAME as --identity.",
)
@click.option(
    "--trust-root",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Instead of a key: a Sigstore trusted_root.json, for keyless signatures.",
)
@click.option("--identity", help="The name that NAME's certificates have.")
@click.option("--identity-provider", help="With --trust-root: who vouches for it (a URL).")
@workspace_option
def add(
    name: str,
    public_key: Path | None,
    roles: tuple[str, ...],
    trust_roots: Path | None,
    trust_root: Path | None,
    identity: str | None,
    identity_provider: str | None,
    root: Path,
) -> None:
    """Let NAME, the holder of PUBLIC_KEY, state what ROLE may state.

    Whoever signs with certificates is named by their identity instead, and then signs models.
    Appends to the policy file; the change is recorded, and admissions are decided again.
    """
    from keepstone.identity.signing import load_public_key
    from keepstone.workspace.operations import perform

    if sum(one is not None for one in (public_key, trust_roots, trust_root)) != 1:
        raise click.UsageError("Give one of PUBLIC_KEY, --trust-roots and --trust-root.")
    if public_key is not None:
        who = {"public_key": load_public_key(public_key).pem.decode()}
    else:
        who = _certified(trust_roots, trust_root, identity, identity_provider)
    answer = perform(site_at(root), "signers.add", {"name": name, "roles": list(roles), **who})
    say(f"{name} ({answer['key_id'][:16]}) is now {', '.join(roles)}", mark="ok")


def _certified(
    trust_roots: Path | None, trust_root: Path | None, identity: str | None, provider: str | None
) -> dict[str, str]:
    if not identity or bool(provider) != (trust_root is not None):
        raise click.UsageError(
            "--trust-roots needs --identity; --trust-root needs --identity-provider beside it."
        )
    if trust_roots is not None:
        return {
            "identity": identity,
            "roots": read_option_file(trust_roots).decode("utf-8", "replace"),
        }
    assert trust_root is not None
    read = read_option_file(trust_root, 1 << 19).decode("utf-8", "replace")
    return {"identity": identity, "issuer": str(provider), "trusted_root": read}


@command.command("list")
@workspace_option
@format_option("json")
def list_signers(root: Path, style: str) -> None:
    """List the signers of the policy file and the workspace's own."""
    from keepstone.workspace.reading import read_workspace

    with read_workspace(site_at(root)) as workspace:
        trust = workspace.trust
        signers = [
            {"name": name, "role": "+".join(sorted(trust.roles[key_id])), "key_id": key_id}
            for key_id, name in trust.names.items()
        ]
    if style == "json":
        emit_json({"schema": "keepstone.signers/v1", "signers": signers})
        return
    rows = [(signer["name"], signer["role"], signer["key_id"]) for signer in signers]
    click.echo(table(rows, ("name", "role", "key")))
