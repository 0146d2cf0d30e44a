"""`keepstone verify`: check a model against an OpenSSF model signing bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keepstone.cli.options import (
    format_option,
    incremental_option,
    read_option_file,
    trust_key_option,
)
from keepstone.cli.output import emit_json, say
from keepstone.cli.sign import inside

if TYPE_CHECKING:
    from keepstone.core.digest import FileDigest
    from keepstone.evidence.modelshards import ResourceDigest
    from keepstone.evidence.modelsign import VerifiedModel
    from keepstone.evidence.signedby import Expected
    from keepstone.identity.signing import VerifyingKey


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

    def key(self) -> VerifyingKey | None:
        """The key that is asked for, where it is a key."""
        from keepstone.identity.signing import load_public_key

        return None if self.public_key is None else load_public_key(self.public_key)

    def is_anybody(self) -> bool:
        """Whether anything at all was said about whose signature counts."""
        return any(
            (
                self.public_key,
                self.trust_roots,
                self.trust_root,
                self.identity,
                self.identity_provider,
                self.at,
            )
        )

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
    trust_roots: Path | None,
    trust_root: Path | None,
    identity: str | None,
    identity_provider: str | None,
    at: str | None,
    signature: Path | None,
    trust: Path | None,
    trust_key: str | None,
    name: str | None,
    incremental: bool,
    style: str,
) -> int:
    """Verify that the model at PATH is byte for byte what whom you expect signed.

    Every file is hashed; one that is missing, added, renamed or changed is refused. Say whose
    signature counts by their public key, by the authority that certifies them, or by their
    identity in a Sigstore log. With --trust the answer is the policy's, over the evidence in the
    trust bundle: whether this model may be loaded here. With --incremental only what changed by
    its metadata is read, and nothing else may rest on the answer.
    """
    whom = Whom(public_key, trust_roots, trust_root, identity, identity_provider, at)
    if trust is not None:
        if incremental:
            raise click.UsageError("--trust decides over a load, so it reads every file.")
        if whom.is_anybody() or signature is not None:
            raise click.UsageError("--trust stands alone: it brings the keys that count.")
        from keepstone.cli.verify_trust import verify_trust

        return verify_trust(path, trust, trust_key, name, style)
    if trust_key is not None or name is not None:
        raise click.UsageError("--trust-key and --name belong to --trust.")
    if signature is None:
        raise click.UsageError("Give --signature and whose it must be, or --trust.")
    from keepstone.errors import InputError
    from keepstone.evidence.modelsign import verify_model

    expected = whom.expected()
    try:
        bundle = signature.read_bytes()
    except OSError as error:
        raise InputError(
            "signature.missing", f"Cannot read {signature}: {error.strerror}."
        ) from error
    if incremental:
        key = whom.key()
        if key is None:
            raise click.UsageError("--incremental asks for a key: give --public-key.")
        return _verify_incrementally(path, bundle, key, inside(path, signature), style)
    verified = verify_model(path, bundle, expected, leave_out=inside(path, signature))
    return _show(path, verified, style)


def _show(path: Path, verified: VerifiedModel, style: str) -> int:
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
                    {"path": file.path, "size": file.size, **_digest(file)}
                    for file in verified.files
                ],
            }
        )
        return 0
    for left_out in verified.unsigned:
        say(f"{left_out} is not covered by the signature", mark="warn")
    by = verified.identity or verified.key_id[:16]
    say(f"{path}: {len(verified.files)} file(s) as signed by {by}", mark="ok")
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
