"""A signer whom an authority names instead of a key: keys may change, the identity stays.

Promise: such a signer has one id, over everything that decides whose signature counts (the
roots, the identity, its issuer), so what was observed under other roots counts no more. It signs
models only: a statement is signed with a key that the policy file lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from keepstone.core.canonical import canonical
from keepstone.evidence.keyless import Keyless
from keepstone.evidence.signedby import ByChain, Expected
from keepstone.identity.certificates import TrustRoots
from keepstone.policy.fields import Table

_SCHEMA = "keepstone.certified-signer/v1"


@dataclass(frozen=True, slots=True)
class ByAuthority:
    """Whoever one of `roots` certifies to be `identity`, and to sign code."""

    identity: str
    roots: TrustRoots

    @property
    def who(self) -> tuple[str, str]:
        """Whom it means, whatever the roots: one person under every name."""
        return (self.identity, "")

    @property
    def signer_id(self) -> str:
        return _id({"identity": self.identity, "roots": list(self.roots.fingerprints)})

    def expected(self, now: int) -> Expected:
        return ByChain(self.roots, now, self.identity)


@dataclass(frozen=True, slots=True)
class ByIssuer:
    """Whoever proved `identity` to `issuer`, as the trusted root of a Sigstore instance says."""

    identity: str
    issuer: str
    trusted_root: bytes = field(repr=False)

    @property
    def who(self) -> tuple[str, str]:
        return (self.identity, self.issuer)

    @property
    def signer_id(self) -> str:
        # White space around it is the file's, not the root's.
        root = sha256(self.trusted_root.strip()).hexdigest()
        return _id({"identity": self.identity, "issuer": self.issuer, "trusted_root": root})

    def expected(self, now: int) -> Expected:
        return Keyless(self.trusted_root, self.identity, self.issuer)


CertifiedSigner = ByAuthority | ByIssuer


def read_authority(table: Table) -> ByAuthority:
    """`[signers.certificate]`. Raises InputError `policy.invalid`, and as `TrustRoots.parse`."""
    identity = table.line("identity")
    roots = TrustRoots.parse(table.string("roots").encode("utf-8"))
    table.done()
    return ByAuthority(identity, roots)


def read_issuer(table: Table) -> ByIssuer:
    """`[signers.keyless]`. Raises InputError `policy.invalid`."""
    found = ByIssuer(
        table.line("identity"), table.line("issuer"), table.string("trusted_root").encode("utf-8")
    )
    table.done()
    return found


def to_toml(signer: CertifiedSigner) -> str:
    """The signer's table, as it stands in a policy file below `[[signers]]`."""
    if isinstance(signer, ByAuthority):
        pem = "".join(signer.roots.pem).strip()
        return f'[signers.certificate]\nidentity = "{signer.identity}"\nroots = """\n{pem}\n"""\n'
    root = signer.trusted_root.decode("utf-8", "replace").strip()
    return (
        f'[signers.keyless]\nidentity = "{signer.identity}"\nissuer = "{signer.issuer}"\n'
        f"trusted_root = '''\n{root}'''\n"
    )


def _id(said: dict[str, object]) -> str:
    return sha256(canonical({"schema": _SCHEMA, **said})).hexdigest()
