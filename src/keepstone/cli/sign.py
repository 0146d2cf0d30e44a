"""`keepstone sign`: an OpenSSF model signing bundle for a file or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import KEY, signing_key
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.keystores.reference import KeyReference


def inside(model: Path, signature: Path) -> tuple[str, ...]:
    """The signature's own path where it lies inside the model's folder, which it cannot cover."""
    folder, file = model.resolve(), signature.resolve()
    return (file.relative_to(folder).as_posix(),) if file.is_relative_to(folder) else ()


@click.command("sign")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--private-key",
    required=True,
    type=KEY,
    help="EC private key: a file (PEM, mode 0600), pkcs11:URI, or awskms:///KEY.",
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the bundle goes.  [default: PATH.sig]",
)
def command(path: Path, private_key: KeyReference, signature: Path | None) -> None:
    """Sign the model at PATH (a file or a folder) as its publisher.

    Writes a Sigstore bundle that any OpenSSF model signing verifier reads.
    """
    from keepstone.evidence.modelsign import sign_model
    from keepstone.files import write_atomic

    key = signing_key(private_key)
    target = signature or path.parent / (path.name + ".sig")
    write_atomic(target, sign_model(path, key, leave_out=inside(path, target)), mode=0o644)
    say(f"signed {path} with key {key.key_id[:16]}: {target}", mark="ok")
