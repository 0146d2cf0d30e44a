"""A CycloneDX 1.6 ML-BOM of one model, from what a workspace can show and nothing else.

Promise: each field is the word of a statement that counts, of the contract that was admitted, of
the gate or of the ledger; a fact that nobody stated is absent, and `keepstone:unknown` names it.
The same facts give the same bytes: the serial number is drawn from the content, and the time is
that of the facts.

Source: https://cyclonedx.org/docs/1.6/json/ (ECMA-424).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

from keepstone.core.canonical import canonical
from keepstone.core.digest import SINGLE_FILE, Digest
from keepstone.core.ports import rfc3339
from keepstone.evidence.predicates import Scan
from keepstone.governance.facts import BomFacts
from keepstone.governance.modelcard import (
    architecture,
    framework,
    model_card,
    newest_training,
    task,
    trainings,
)
from keepstone.governance.proof import (
    LEFT_OUT,
    VULNERABILITIES,
    claims,
    evidence,
    newest_admissions,
    references,
)
from keepstone.governance.purl import package_url
from keepstone.governance.words import plain, prop, without_empty
from keepstone.scan.packages.package import Package

SPEC_VERSION = "1.6"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
# Never known here: no statement has a field for them.
_NEVER = ("considerations", "licences", "supplier")


def make_bom(facts: BomFacts) -> dict[str, Any]:
    """The document as plain data, with its serial number."""
    model = model_ref(facts)
    data = list(_datasets(facts))
    parts = [*data, *_framework(facts), *_packages(facts)]
    document: dict[str, Any] = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(facts.taken),
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": plain(facts.tool.name),
                        "version": plain(facts.tool.version),
                    }
                ]
            },
            "component": _model(facts, model, [item["bom-ref"] for item in data]),
            "properties": _when(facts),
        },
        "components": parts,
        "dependencies": [
            {"ref": model, "dependsOn": sorted(item["bom-ref"] for item in parts)},
            *({"ref": ref} for ref in sorted(item["bom-ref"] for item in parts)),
        ],
        "declarations": without_empty(
            {"claims": claims(facts, model), "evidence": list(evidence(facts))}
        ),
    }
    return document | {"serialNumber": _serial(document)}


def to_bytes(document: dict[str, Any]) -> bytes:
    """The document as it is written: indented, one way to write the same content."""
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _serial(document: dict[str, Any]) -> str:
    """A UUID drawn from the content (RFC 9562, version 8): other content, another serial."""
    raw = bytearray(Digest.of(canonical(document)).raw[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    return f"urn:uuid:{UUID(bytes=bytes(raw))}"


def model_ref(facts: BomFacts) -> str:
    return f"{facts.subject.name}@{facts.subject.digest}"


def _model(facts: BomFacts, ref: str, datasets: list[str]) -> dict[str, Any]:
    file_sha256 = _file_sha256(facts)
    return without_empty(
        {
            "type": "machine-learning-model",
            "bom-ref": ref,
            "name": facts.subject.name,
            # The digest's beginning: a version that cannot be given to two artifacts.
            "version": facts.subject.digest.short,
            "hashes": [] if file_sha256 is None else _hashes(file_sha256),
            "components": [
                {
                    "type": "file",
                    "bom-ref": f"{ref}#{quote(file.path)}",
                    "name": plain(file.path),
                    "hashes": _hashes(file.sha256),
                    "properties": [prop("size", file.size)],
                }
                for file in facts.files or ()
                if file.path != SINGLE_FILE
            ],
            "modelCard": model_card(facts, datasets),
            "externalReferences": list(references(facts)),
            "properties": list(_properties(facts)),
        }
    )


def _file_sha256(facts: BomFacts) -> Digest | None:
    """The SHA-256 of the one file that the artifact is, where the vault or a scan saw it."""
    for file in facts.files or ():
        if file.path == SINGLE_FILE:
            return file.sha256
    seen = [item.statement.file_sha256 for item in facts.evidence.of(Scan.kind)]
    return next((digest for digest in reversed(seen) if digest is not None), None)


def _hashes(digest: Digest) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.hex}]


def _properties(facts: BomFacts) -> Iterator[dict[str, str]]:
    verdict = facts.verdict
    yield prop("artifact", facts.subject.digest)
    yield prop("origin", "not proven" if "origin" in verdict.not_proven else "proven")
    yield prop("verdict", "admitted" if verdict.allowed else "denied")
    yield prop("verdict.rule", verdict.rule)
    yield prop("verdict.endpoint", verdict.endpoint)
    yield prop("policy.digest", verdict.policy)
    yield prop("policy.profile", verdict.profile)
    for what in verdict.not_proven:
        yield prop("not_proven", what)
    if facts.contract is not None:
        yield prop("contract.digest", facts.contract.digest)
        yield prop("contract.source", facts.contract.source)
    said = newest_training(facts)
    if said is not None:
        for name, value in sorted(said.parameters.items()):
            yield prop(f"training.parameter.{name}", value)
        if said.seed is not None:
            yield prop("training.seed", said.seed)
    for refused in facts.evidence.refused:
        if refused.kind not in LEFT_OUT:
            yield prop("refused", f"{refused.digest} {refused.kind}: {refused.detail}")
    for text in facts.packages.unread if facts.packages is not None else ():
        yield prop("packages.unread", text)
    for name in unknown(facts):
        yield prop("unknown", name)


def unknown(facts: BomFacts) -> list[str]:
    """What a reader of the document would look for and nobody stated."""
    said = newest_training(facts)
    asked: tuple[tuple[str, object], ...] = (
        ("architecture", architecture(facts)),
        ("contract", facts.contract),
        ("datasets", said),
        ("files", facts.files),
        ("framework", said),
        ("framework version", said and framework(said)[1]),
        ("metrics", said and said.metrics),
        ("packages", facts.packages is not None),
        ("task", task(facts)),
        ("vulnerabilities", facts.evidence.of(VULNERABILITIES)),
    )
    return sorted([*_NEVER, *(name for name, value in asked if not value)])


def _datasets(facts: BomFacts) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for _, said in trainings(facts):
        ref = f"dataset:{said.dataset.digest}"
        if ref not in seen:
            seen.add(ref)
            name = plain(said.dataset.name)
            yield {
                "type": "data",
                "bom-ref": ref,
                "name": name,
                "hashes": _hashes(said.dataset.digest),
                "data": [{"type": "dataset", "name": name}],
                "properties": [prop("digest.by", "its publisher's training statement")],
            }


def _framework(facts: BomFacts) -> Iterator[dict[str, Any]]:
    said = newest_training(facts)
    if said is not None:
        name, version = framework(said)
        yield without_empty(
            {
                "type": "framework",
                "bom-ref": "framework",
                "name": plain(name),
                "version": None if version is None else plain(version),
            }
        )


def _packages(facts: BomFacts) -> Iterator[dict[str, Any]]:
    """Each package once, however many files name it."""
    places: dict[str, list[str]] = {}
    first: dict[str, Package] = {}
    for package in sorted(facts.packages.packages if facts.packages is not None else ()):
        url = package_url(package)
        first.setdefault(url, package)
        places.setdefault(url, []).append(package.path)
    for url, package in sorted(first.items()):
        yield without_empty(
            {
                "type": "library",
                "bom-ref": url,
                "name": plain(package.name),
                "version": plain(package.version),
                "purl": url,
                "properties": [
                    *(prop("path", path) for path in _distinct(places[url])),
                    *([prop("source", package.source)] if package.source else []),
                ],
            }
        )


def _distinct(items: Iterable[str]) -> list[str]:
    return sorted(set(items))


def _when(facts: BomFacts) -> list[dict[str, str]]:
    """Where in the ledger all of this was read: it grows, and that alone changes nothing."""
    return [
        prop("ledger.origin", facts.origin),
        prop("ledger.root", facts.ledger.root),
        prop("ledger.size", facts.ledger.size),
        *(prop("admission", text) for text in newest_admissions(facts)),
    ]
