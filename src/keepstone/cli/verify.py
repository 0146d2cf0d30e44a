"""`keepstone verify`: check a model against an OpenSSF model signing bundle."""

from __future__ import annotations

from pathlib import Path

import click

from keepstone.cli.options import format_option, trust_key_option
from keepstone.cli.output import emit_json, say
from keepstone.cli.sign import inside


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
@format_option("json")
def command(
    path: Path,
    public_key: Path | None,
    signature: Path | None,
    trust: Path | None,
    trust_key: str | None,
    name: str | None,
    style: str,
) -> int:
    """Verify that the model at PATH is byte for byte what the key's owner signed.

    Every file is hashed; one that is missing, added, renamed or changed is refused. With --trust
    the answer is the policy's, over the evidence in the trust bundle: whether this model may be
    loaded here.
    """
    if trust is not None:
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
    verified = verify_model(path, bundle, key, leave_out=inside(path, signature))
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.verify/v1",
                "verified": True,
                "key_id": verified.key_id,
                "unsigned": list(verified.unsigned),
                "files": [
                    {"path": file.path, "size": file.size, "sha256": file.sha256.hex}
                    for file in verified.files
                ],
            }
        )
        return 0
    for left_out in verified.unsigned:
        say(f"{left_out} is not covered by the signature", mark="warn")
    say(f"{path}: {len(verified.files)} file(s) as signed by {verified.key_id[:16]}", mark="ok")
    return 0
