"""What a program's name for a model means: `digits`, `digits@sha256:...`, or a version of it.

`digits` and a digest mean what was admitted here before; a number, an alias or a stage mean a
version in the registry.
"""

from __future__ import annotations

from keepstone.errors import InputError
from keepstone.evidence import predicates
from keepstone.evidence.verify import EvidenceBase
from keepstone.vault.registry.reference import Reference

# Where a model runs that a program loads: not an endpoint that anybody can reach.
LIBRARY = "library"


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
        "Bring it in first (keepstone up MODEL --name NAME), or name a version: NAME@3.",
    )


def endpoint_of(wanted: Reference) -> str:
    """Where the gate judges it: at the alias or stage that was named, else at the library."""
    return wanted.pointer or LIBRARY


def is_version(wanted: Reference) -> bool:
    """Whether the registry knows what is meant, and nobody else."""
    return wanted.pointer is not None or wanted.number is not None


__all__ = ["LIBRARY", "Reference", "endpoint_of", "is_version", "latest_admission"]
