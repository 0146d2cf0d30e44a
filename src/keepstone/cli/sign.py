"""`keepstone sign`: an OpenSSF model signing bundle for a file or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import KEY, read_option_file, signing_key
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.identity.certificates import SigningChain
    from keepstone.identity.keystores.reference import KeyReference
    from keepstone.identity.signing import Signatory


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
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The signer's certificate (PEM), for this key and for signing code.",
)
@click.option(
    "--chain",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates (PEM) between the signer's and the root; may be given again.",
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the bundle goes.  [default: PATH.sig]",
)
def command(
    path: Path,
    private_key: KeyReference,
    certificate: Path | None,
    chain: tuple[Path, ...],
    signature: Path | None,
) -> None:
    """Sign the model at PATH (a file or a folder) as its publisher.

    Writes a Sigstore bundle that any OpenSSF model signing verifier reads. With a certificate,
    whoever trusts its root can verify without knowing the key.
    """
    from keepstone.evidence.modelsign import sign_model
    from keepstone.files import write_atomic

    if chain and certificate is None:
        raise click.UsageError("--chain needs --certificate.")
    key = signing_key(private_key)
    carried = None if certificate is None else _chain(certificate, chain, key)
    target = signature or path.parent / (path.name + ".sig")
    bundle = sign_model(path, key, leave_out=inside(path, target), chain=carried)
    write_atomic(target, bundle, mode=0o644)
    say(f"signed {path} with key {key.key_id[:16]}: {target}", mark="ok")


def _chain(certificate: Path, chain: tuple[Path, ...], key: Signatory) -> SigningChain:
    from keepstone.core.ports import SystemClock
    from keepstone.identity.certificates import SigningChain

    found = SigningChain.parse(
        read_option_file(certificate), [read_option_file(path) for path in chain]
    )
    found.require_usable(key.verifying, SystemClock().now_ms())
    return found
