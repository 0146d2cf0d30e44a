"""`keepstone sign`: an OpenSSF model signing bundle for a file or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import (
    KEY,
    format_option,
    incremental_option,
    read_option_file,
    signing_key,
)
from keepstone.cli.output import emit_json, say

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
@click.option(
    "--shards",
    is_flag=True,
    help="Hash each 4 MiB by itself, so that one big file keeps every core busy.",
)
@incremental_option
@format_option("json")
def command(
    path: Path,
    private_key: KeyReference,
    certificate: Path | None,
    chain: tuple[Path, ...],
    signature: Path | None,
    shards: bool,
    incremental: bool,
    style: str,
) -> None:
    """Sign the model at PATH (a file or a folder) as its publisher.

    Writes a Sigstore bundle that any OpenSSF model signing verifier reads. With a certificate,
    whoever trusts its root can verify without knowing the key.
    """
    from keepstone.evidence.modelsign import sign_model
    from keepstone.files import write_atomic

    if chain and certificate is None:
        raise click.UsageError("--chain needs --certificate.")
    if shards and incremental:
        raise click.UsageError("--incremental remembers whole files, not shards.")
    key = signing_key(private_key)
    carried = None if certificate is None else _chain(certificate, chain, key)
    target = signature or path.parent / (path.name + ".sig")
    left_out = inside(path, target)
    unchanged = None
    if incremental:
        bundle, unchanged = _sign_incrementally(path, key, left_out, carried)
    else:
        bundle = sign_model(path, key, leave_out=left_out, shards=shards, chain=carried)
    write_atomic(target, bundle, mode=0o644)
    if style == "json":
        document = {"schema": "keepstone.sign/v1", "signature": str(target), "key_id": key.key_id}
        emit_json(document | ({} if unchanged is None else {"unchanged_by_metadata": unchanged}))
    if unchanged is not None:
        say(f"{len(unchanged)} file(s) unchanged by metadata, not read again", mark="warn")
    say(f"signed {path} with key {key.key_id[:16]}: {target}", mark="ok")


def _chain(certificate: Path, chain: tuple[Path, ...], key: Signatory) -> SigningChain:
    from keepstone.core.ports import SystemClock
    from keepstone.identity.certificates import SigningChain

    found = SigningChain.parse(
        read_option_file(certificate), [read_option_file(path) for path in chain]
    )
    found.require_usable(key.verifying, SystemClock().now_ms())
    return found


def _sign_incrementally(
    path: Path, key: Signatory, left_out: tuple[str, ...], chain: SigningChain | None
) -> tuple[bytes, list[str]]:
    """The bundle, and the files that were signed by what they hashed to before."""
    from keepstone.cli.options import outside_folder
    from keepstone.evidence.hashcache import HashCache
    from keepstone.evidence.incremental import sign_incrementally

    cache = HashCache(outside_folder() / "hashes")
    bundle, found = sign_incrementally(path, key, cache.load(path), leave_out=left_out, chain=chain)
    cache.keep(path, found.memory)
    return bundle, [file.path for file in found.files if file.unchanged_by_metadata]
