"""Everything that a bill of materials rests on, gathered by who can reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keepstone.contract.schema import ModelContract
from keepstone.core.digest import FileDigest
from keepstone.core.subject import Subject
from keepstone.evidence.made import Tool
from keepstone.evidence.predicates import LedgerHead
from keepstone.evidence.verify import Evidence
from keepstone.policy.gate import Verdict
from keepstone.scan.packages.package import Package


@dataclass(frozen=True, slots=True)
class Seen:
    """The packages that were found, and each file or package that could not be judged, and why."""

    packages: tuple[Package, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BomFacts:
    """One model as a workspace knows it at one moment (`taken`, in ms).

    `files` and `contract` are None where they could not be had. `packages` is None where nobody
    asked what the environment holds. `persons` are the names behind key ids, `entries` the ids of
    ledger entries by their index. `ledger` is the head that all of it was read at.
    """

    subject: Subject
    taken: int
    tool: Tool
    evidence: Evidence
    verdict: Verdict
    persons: Mapping[str, str]
    entries: Mapping[int, str]
    origin: str
    ledger: LedgerHead
    files: tuple[FileDigest, ...] | None = None
    contract: ModelContract | None = None
    packages: Seen | None = None
