"""`keepstone verify`: check a model against an OpenSSF model signing bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import format_option, read_option_file
from keepstone.cli.output import emit_json, say
from keepstone.cli.sign import inside

if TYPE_CHECKING:
    from keepstone.evidence.modelsign import VerifiedModel
    from keepstone.evidence.signedby import Expected


@dataclass(frozen=True, slots=True)
class Whom:
    """Whose signature is asked for, as the options say it: a key, a root, or an identity."""

    public_key: Path | None
    trust_roots: Path | None
    trust_root: Path | None
    identity: str | None
    identity_provider: str | None
    at: str | None

    def expected(self) -> Expected:
        given = [self.public_key, self.trust_roots, self.trust_root]
        if sum(one is not None for one in given) != 1:
            raise click.UsageError(
                "Say whose signature counts: one of --public-key, --trust-roots, --trust-root."
            )
        if self.public_key is not None:
            return self._by_key(self.public_key)
        if self.trust_roots is not None:
            return self._by_chain(self.trust_roots)
        assert self.trust_root is not None
        return self._keyless(self.trust_root)

    def _by_key(self, public_key: Path) -> Expected:
        from keepstone.evidence.signedby import ByKey
        from keepstone.identity.signing import load_public_key

        if self.identity or self.identity_provider or self.at:
            raise click.UsageError("A key has no identity, issuer or time of its own.")
        return ByKey(load_public_key(public_key))

    def _by_chain(self, roots: Path) -> Expected:
        from keepstone.core.ports import SystemClock, parse_rfc3339
        from keepstone.evidence.signedby import ByChain
        from keepstone.identity.certificates import TrustRoots

        if self.identity_provider:
            raise click.UsageError("--identity-provider belongs to --trust-root.")
        now = SystemClock().now_ms() if self.at is None else parse_rfc3339(self.at)
        return ByChain(TrustRoots.parse(read_option_file(roots)), now, self.identity)

    def _keyless(self, root: Path) -> Expected:
        from keepstone.evidence.keyless import Keyless

        if self.at:
            raise click.UsageError("The time of a keyless signature is the log's, not --at.")
        if not self.identity or not self.identity_provider:
            raise click.UsageError("--trust-root needs --identity and --identity-provider.")
        return Keyless(read_option_file(root), self.identity, self.identity_provider)


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The publisher's public key (PEM).",
)
@click.option(
    "--trust-roots",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Authorities (PEM): one of them must certify the signer to sign code.",
)
@click.option(
    "--trust-root",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A Sigstore trusted_root.json: for a keyless signature. Nothing is fetched.",
)
@click.option("--identity", help="The name that the signer's certificate must have.")
@click.option("--identity-provider", help="Who must have told Sigstore that identity (a URL).")
@click.option("--at", help="With --trust-roots: judge as of this time (RFC 3339).  [default: now]")
@click.option(
    "--signature",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The bundle.",
)
@format_option("json")
def command(
    path: Path,
    signature: Path,
    style: str,
    public_key: Path | None,
    trust_roots: Path | None,
    trust_root: Path | None,
    identity: str | None,
    identity_provider: str | None,
    at: str | None,
) -> None:
    """Verify that the model at PATH is byte for byte what whom you expect signed.

    Every file is hashed; one that is missing, added, renamed or changed is refused. Say whose
    signature counts by their public key, by the authority that certifies them, or by their
    identity in a Sigstore log.
    """
    from keepstone.errors import InputError
    from keepstone.evidence.modelsign import verify_model

    whom = Whom(public_key, trust_roots, trust_root, identity, identity_provider, at)
    expected = whom.expected()
    try:
        bundle = signature.read_bytes()
    except OSError as error:
        raise InputError(
            "signature.missing", f"Cannot read {signature}: {error.strerror}."
        ) from error
    verified = verify_model(path, bundle, expected, leave_out=inside(path, signature))
    _show(path, verified, style)


def _show(path: Path, verified: VerifiedModel, style: str) -> None:
    if style == "json":
        emit_json(
            {
                "schema": "keepstone.verify/v1",
                "verified": True,
                "key_id": verified.key_id,
                "identity": verified.identity,
                "issuer": verified.issuer,
                "unsigned": list(verified.unsigned),
                "files": [
                    {"path": file.path, "size": file.size, "sha256": file.sha256.hex}
                    for file in verified.files
                ],
            }
        )
        return
    for left_out in verified.unsigned:
        say(f"{left_out} is not covered by the signature", mark="warn")
    by = verified.identity or verified.key_id[:16]
    say(f"{path}: {len(verified.files)} file(s) as signed by {by}", mark="ok")
