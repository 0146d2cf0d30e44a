"""Waivers at work in a scan of packages: what they waive, and how that is shown."""

from __future__ import annotations

from typing import Any

from keepstone.core.ports import rfc3339
from keepstone.scan.packages.judging import DepsReport
from keepstone.scan.packages.vulnerability import Vulnerability, Waived
from keepstone.scan.vulnerabilities.waiver import SignedWaiver, Waivers


def waived_by(waivers: Waivers) -> Waived:
    """What `judge_packages` asks: the reason, who, and until when; None where nobody waived it."""

    def ask(found: Vulnerability) -> str | None:
        one = _waiver_of(found, waivers)
        if one is None:
            return None
        until = rfc3339(one.waiver.expires)
        return f"{one.waiver.reason} (by the key {one.key_id[:16]}, until {until})"

    return ask


def waivers_json(report: DepsReport, waivers: Waivers) -> dict[str, Any]:
    """Which waivers were used, which were not needed, and which waive nothing and why."""
    used = {
        one.digest
        for found in report.vulnerabilities
        if (one := _waiver_of(found, waivers)) is not None
    }
    return {
        "held": [_held(one) | {"used": one.digest in used} for one in waivers.held],
        "refused": [
            {"file": one.file, "line": one.line, "code": one.code, "cause": one.cause}
            for one in waivers.refused
        ],
    }


def refused_text(waivers: Waivers) -> list[str]:
    """One line for each that waives nothing."""
    return [f"waives nothing: {one}" for one in waivers.refused]


def _waiver_of(found: Vulnerability, waivers: Waivers) -> SignedWaiver | None:
    package = found.package
    return waivers.for_(package.ecosystem, package.name, package.version, found.ids)


def _held(one: SignedWaiver) -> dict[str, Any]:
    document = one.waiver.to_dict()
    del document["schema"]
    return {"digest": str(one.digest), "key_id": one.key_id, **document}
