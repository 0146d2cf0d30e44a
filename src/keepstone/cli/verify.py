"""`keepstone verify`: check a model against an OpenSSF model signing bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import format_option, incremental_option, trust_key_option
from keepstone.cli.output import emit_json, say
from keepstone.cli.sign import inside

if TYPE_CHECKING:
    from keepstone.core.digest import FileDigest
    from keepstone.evidence.modelshards import ResourceDigest
    from keepstone.identity.signing import VerifyingKey


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The publisher's public key (PEM).",
)
@click.option(
    "--signature",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The bundle.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A trust bundle: ask its policy instead of one publisher's key.",
)
@trust_key_option
@click.option("--name", help="With --trust: the name that the model is to be loaded under.")
@incremental_option
@format_option("json")
def command(
    path: Path,
    public_key: Path | None,
    signature: Path | None,
    trust: Path | None,
    trust_key: str | None,
    name: str | None,
    incremental: bool,
    style: str,
) -> int:
    """Verify that the model at PATH is byte for byte what the key's owner signed.

    Every file is hashed; one that is missing, added, renamed or changed is refused. With --trust
    the answer is the policy's, over the evidence in the trust bundle: whether this model may be
    loaded here. With --incremental only what changed by its metadata is read, and nothing else
    may rest on the answer.
    """
    if trust is not None:
        if incremental:
            raise click.UsageError("--trust decides over a load, so it reads every file.")
        if public_key is not None or signature is not None:
            raise click.UsageError("--trust stands alone: it brings the keys that count.")
        from keepstone.cli.verify_trust import verify_trust

        return verify_trust(path, trust, trust_key, name, style)
    if trust_key is not None or name is not None:
        raise click.UsageError("--trust-key and --name belong to --trust.")
    if public_key is None or signature is None:
        raise click.UsageError("Give --public-key and --signature, or --trust.")
    from keepstone.errors import InputError
    from keepstone.evidence.modelsign import verify_model
    from keepstone.identity.signing import load_public_key

    key = load_public_key(public_key)
    try:
        bundle = signature.read_bytes()
    except OSError as error:
        raise InputError(
            "signature.missing", f"Cannot read {signature}: {error.strerror}."
        ) from error
    if incremental:
        return _verify_incrementally(path, bundle, key, inside(path, signature), style)
    verified = verify_model(path, bundle, key, leave_out=inside(path, signature))
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.verify/v1",
                "verified": True,
                "key_id": verified.key_id,
                "unsigned": list(verified.unsigned),
                "files": [
                    {"path": file.path, "size": file.size, **_digest(file)}
                    for file in verified.files
                ],
            }
        )
        return 0
    for left_out in verified.unsigned:
        say(f"{left_out} is not covered by the signature", mark="warn")
    say(f"{path}: {len(verified.files)} file(s) as signed by {verified.key_id[:16]}", mark="ok")
    return 0


def _digest(file: FileDigest | ResourceDigest) -> dict[str, str]:
    """A file's digest under the name of the way in which it was hashed."""
    from keepstone.core.digest import FileDigest

    if isinstance(file, FileDigest):
        return {"sha256": file.sha256.hex}
    return {file.label: file.hex} if file.digests else {}


def _verify_incrementally(
    path: Path, bundle: bytes, key: VerifyingKey, left_out: tuple[str, ...], style: str
) -> int:
    """As `command`, in a document of its own: nobody can take it for one that is verified."""
    from keepstone.cli.options import outside_folder
    from keepstone.evidence.hashcache import HashCache
    from keepstone.evidence.incremental import verify_incrementally

    cache = HashCache(outside_folder() / "hashes")
    model, memory = verify_incrementally(path, bundle, key, cache.load(path), leave_out=left_out)
    cache.keep(path, memory)
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.verify-incremental/v1",
                "key_id": model.key_id,
                "unsigned": list(model.unsigned),
                "unchanged_by_metadata": model.unchanged_by_metadata,
                "files": [
                    {
                        "path": file.path,
                        "size": file.size,
                        "unchanged_by_metadata": file.unchanged_by_metadata,
                    }
                    for file in model.files
                ],
            }
        )
        return 0
    for unsigned in model.unsigned:
        say(f"{unsigned} is not covered by the signature", mark="warn")
    read = len(model.files) - model.unchanged_by_metadata
    say(f"{model.unchanged_by_metadata} file(s) unchanged by metadata, not read", mark="warn")
    say(f"{path}: {read} file(s) read, as signed by {model.key_id[:16]}", mark="ok")
    return 0
