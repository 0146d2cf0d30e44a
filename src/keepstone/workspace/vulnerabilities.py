"""What is known of the packages that go with a model, as evidence about it.

Two roads: somebody signs what a report says, with a key of their own; or the workspace scans and
its observer says what it saw. The observer never signs a report, and overlooks nothing at a
caller's word: there a waiver counts only by a signer to whom the policy gives the right to waive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import InputError
from keepstone.evidence.made import TOOL
from keepstone.evidence.statement import make_statement
from keepstone.evidence.vulnerabilities import REPORTED, SCANNED, Vulnerabilities
from keepstone.identity.signing import Signatory, VerifyingKey, parse_public_pem
from keepstone.policy.trust import Trust
from keepstone.scan.packages.inventory import Inventory
from keepstone.scan.packages.judging import judge_packages
from keepstone.scan.packages.osv.database import read_database
from keepstone.scan.packages.places import look
from keepstone.scan.packages.report import deps_json
from keepstone.scan.vulnerabilities.examined import conclude, examined
from keepstone.scan.vulnerabilities.reading import Given, examine
from keepstone.scan.vulnerabilities.waiver import RefusedWaiver, Waivers, read_waivers
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reading import find_subject, read_workspace
from keepstone.workspace.site import Site


@dataclass(frozen=True, slots=True)
class Terms:
    """The waivers that may be used, whose of them count, and how long the statement holds (ms)."""

    waivers: bytes = b""
    keys: tuple[VerifyingKey, ...] = ()
    lifetime_ms: int | None = None

    def held(self, now: int) -> Waivers:
        return read_waivers(self.waivers, {key.key_id: key for key in self.keys}, now)

    def entitled(self, trust: Trust) -> tuple[Terms, tuple[str, ...]]:
        """These terms with the keys whose holders may waive, and a sentence on each other key."""
        keys = tuple(key for key in self.keys if trust.may_waive(key.key_id))
        others = tuple(
            f"for the key {key.key_id} is of no signer with the right `state.waiver`"
            for key in self.keys
            if key not in keys
        )
        return replace(self, keys=keys), others

    def to_dict(self) -> dict[str, Any]:
        """As it travels to the owner."""
        return {
            "waivers": self.waivers.decode("utf-8", "replace"),
            "waiver_keys": [key.pem.decode() for key in self.keys],
            "lifetime_ms": self.lifetime_ms,
        }

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Terms:
        keys = tuple(parse_public_pem(str(pem).encode()) for pem in value["waiver_keys"])
        lifetime = value["lifetime_ms"]
        waivers = str(value["waivers"]).encode()
        return cls(waivers, keys, None if lifetime is None else int(lifetime))


@dataclass(frozen=True, slots=True)
class Attested:
    """What was said about which artifact, not yet in the ledger; and waivers that did not hold."""

    subject: Subject
    said: Vulnerabilities
    envelope: dict[str, Any]
    refused: tuple[RefusedWaiver, ...]


def attest_report(site: Site, model: str, key: Signatory, given: Given, terms: Terms) -> Attested:
    """Sign, with `key`, what a report says about the packages that go with `model`.

    That the report is about this artifact is the signer's word. Raises InputError
    `model.unknown`, and as `examine`, `read_waivers` and `conclude`.
    """
    with read_workspace(site) as view:
        subject, now = find_subject(view.evidence, model), view.now
    held = terms.held(now)
    said = conclude(
        examine(given, now),
        held,
        basis=REPORTED,
        tool=TOOL,
        now=now,
        report=Digest.of(given.report),
        lifetime_ms=terms.lifetime_ms,
        inputs=given.inputs,
    )
    envelope = make_statement(subject, said, key).to_dict()
    return Attested(subject, said, envelope, held.refused)


def observe_packages(workspace: Workspace, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The owner's part: look at the paths itself, and state what it saw with the observer's key.

    Raises InputError `model.unknown`, `scan.missing`, `deps.unknown_list`, `osv.*`; DeniedError
    `statement.no_right` where the policy's observer may not state it.
    """
    now = workspace.clock.now_ms()
    subject = find_subject(workspace.evidence, str(arguments["model"]))
    paths = [Path(str(path)) for path in arguments["paths"]]
    if not all(path.is_absolute() for path in (*paths, Path(str(arguments["osv"])))):
        raise InputError("control.malformed", "A path to be scanned is not absolute.")
    found = sum((look(path) for path in paths), Inventory())
    database = read_database(Path(str(arguments["osv"])), found.packages, now)
    report = judge_packages(found, database, now, max_age_ms=int(arguments["max_age_ms"]))
    terms, refused = Terms.read(arguments["terms"]).entitled(workspace.trust)
    held = terms.held(now)
    said = conclude(
        examined(report, TOOL, ", ".join(map(str, paths))),
        held,
        basis=SCANNED,
        tool=TOOL,
        now=now,
        report=Digest.of(json.dumps(deps_json(report), sort_keys=True).encode()),
        lifetime_ms=terms.lifetime_ms,
    )
    entry, _ = workspace.record(make_statement(subject, said, workspace.keys.observer))
    return {
        "entry": str(entry),
        "subject": str(subject),
        "said": said.to_dict(),
        "refused": [*refused, *map(str, held.refused)],
    }
