"""Reading the reports of other scanners: which form a file has, and the words they share.

Nothing in such a file is trusted to be what it is called: every member is asked for by type, a
newer form is refused by name, and what cannot be read is an error and never a clean report.
Members that nobody here asks for are let be, since these forms are not ours and grow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.core.finding import Severity
from keepstone.core.ports import parse_rfc3339
from keepstone.errors import InputError
from keepstone.evidence.fields import Fields
from keepstone.scan.rules import printable

MAX_REPORT = 64 << 20
MAX_ITEMS = 1_000_000
MALFORMED = "report.malformed"
_NANOSECONDS = re.compile(r"(\.[0-9]{9})[0-9]+")
_SEVERITIES = {
    "critical": Severity.CRITICAL,
    "high": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "moderate": Severity.MEDIUM,
    "low": Severity.LOW,
    "negligible": Severity.LOW,
    "info": Severity.INFO,
    "none": Severity.INFO,
}
OURS, TRIVY, GRYPE, SYFT, CYCLONEDX = "Keepstone", "Trivy", "Grype", "Syft", "CycloneDX"
# By the members that no report of that form is without.
_MARKS: Mapping[str, tuple[str, ...]] = {
    TRIVY: ("SchemaVersion", "ArtifactName"),
    GRYPE: ("matches", "descriptor"),
    SYFT: ("artifacts", "descriptor", "schema"),
    CYCLONEDX: ("bomFormat", "specVersion"),
}


def parse_report(data: bytes) -> Mapping[str, Any]:
    """The document in `data`. Raises InputError `json.*`, `report.malformed`."""
    value = parse_json(data, limit=MAX_REPORT)
    if not isinstance(value, dict):
        raise InputError(MALFORMED, "The report is not a JSON object.")
    return value


def form_of(value: Mapping[str, Any]) -> str:
    """Which of the known forms a document has. Raises InputError `report.unknown`."""
    forms = [form for form, marks in _MARKS.items() if all(mark in value for mark in marks)]
    if isinstance(value.get("schema"), str) and value["schema"].startswith("keepstone."):
        forms.append(OURS)
    if len(forms) != 1:
        what = "no form that is read here" if not forms else f"that of {' and '.join(forms)}"
        raise InputError(
            "report.unknown",
            f"The report has {what}.",
            "Give JSON of `keepstone scan deps`, Trivy, Grype, Syft, or CycloneDX.",
        )
    return forms[0]


class Outside(Fields):
    """One object of a report: asked for by type, and let be where nobody asks."""

    def __init__(self, value: Any, what: str) -> None:
        super().__init__(value, what, MALFORMED)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._value)

    def word(self, name: str, limit: int = 1024) -> str:
        """A text, fit to be shown, and empty where it is absent or null."""
        return "" if self.maybe(name) is None else printable(self.text(name, 1 << 20), limit)

    def exactly(self, name: str, limit: int = 512) -> str:
        """A text that is compared as it is: one line, not empty."""
        return self.line(name, limit)

    def many(self, name: str) -> list[Any]:
        """A list, empty where it is absent or null."""
        return [] if self.maybe(name) is None else self.items(name, MAX_ITEMS)

    def part(self, name: str) -> Outside:
        return Outside(self.raw(name), f"{self._what}'s {name}")

    def part_or_none(self, name: str) -> Outside | None:
        return None if self.maybe(name) is None else self.part(name)

    def moment(self, name: str) -> int | None:
        """A time (ms), None where it is absent, null or Go's zero."""
        text = self.word(name, 64)
        if not text or text.startswith("0001-01-01"):
            return None
        try:
            return parse_rfc3339(_NANOSECONDS.sub(r"\1", text))
        except InputError as error:
            raise self.fault(name, "is not an RFC 3339 time") from error


def severity_of(word: str) -> Severity | None:
    """None for what is unknown, and for a word that nobody knows."""
    return _SEVERITIES.get(word.strip().lower())


def newer(what: str, found: str, known: str) -> InputError:
    return InputError(
        "report.newer_version",
        f"The report is of {what} {printable(found, 40)}, and this build reads {known}.",
        "Upgrade Keepstone, or have the tool write the older form.",
    )


def major_of(version: str) -> int | None:
    match = re.match(r"v?([0-9]{1,6})(\.|\Z|-|\+)", version)
    return None if match is None else int(match[1])
