"""How a program names a model: `digits`, or `digits@sha256:...` for one artifact of that name."""

from __future__ import annotations

from dataclasses import dataclass

from keepstone.core.digest import Digest
from keepstone.core.subject import check_name
from keepstone.errors import InputError
from keepstone.evidence import predicates
from keepstone.evidence.verify import EvidenceBase

# Where a model runs that a program loads: not an endpoint that anybody can reach.
LIBRARY = "library"


@dataclass(frozen=True, slots=True)
class Reference:
    """`name`, or `name@sha256:...` for one artifact under that name."""

    name: str
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InputError `name.invalid`, `model.unknown_alias`, `digest.malformed`."""
        name, at, rest = text.partition("@")
        if not at:
            return cls(check_name(name))
        if not rest.startswith("sha256:"):
            raise InputError(
                "model.unknown_alias",
                f"There is no alias {rest[:64]!r} of {name[:64]!r}.",
                "Name the model alone, for what was admitted last, or add @sha256:DIGEST.",
            )
        return cls(check_name(name), Digest.parse(rest))


def latest_admission(evidence: EvidenceBase, wanted: Reference) -> predicates.Admission:
    """The newest admission that the gate gave to what `wanted` means.

    It says which artifact is meant and what its contract was; it permits nothing any more.
    Raises InputError `model.never_admitted`.
    """
    for item in reversed(evidence.statements):
        said = item.predicate
        if not isinstance(said, predicates.Admission) or said.name != wanted.name:
            continue
        if wanted.digest in (None, said.artifact):
            return said
    raise InputError(
        "model.never_admitted",
        f"Nothing was ever admitted here as {wanted.name!r}"
        + (f" with the digest {wanted.digest.short}." if wanted.digest else "."),
        "Bring it in first: keepstone up MODEL --name NAME.",
    )
