"""Every rule: its stable id, how grave it is, and what it makes of the file.

A rule's outcome is fixed here and nowhere else: a limit, an error or a format that no check
knows is *not evaluated*, never clean. docs/rules.md is this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.core.finding import Finding, Location, Outcome, Severity, worst

# Stated in every scan's evidence; changes whenever a verdict could.
RULES_VERSION = "1"
MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    severity: Severity
    outcome: Outcome
    meaning: str


_FLAGGED, _OPEN = Outcome.FLAGGED, Outcome.NOT_EVALUATED
_LOW, _MEDIUM, _HIGH, _CRITICAL = (
    Severity.LOW,
    Severity.MEDIUM,
    Severity.HIGH,
    Severity.CRITICAL,
)

_TABLE = (
    Rule(
        "file.polyglot",
        _HIGH,
        _FLAGGED,
        "The file is valid in two formats at once; which one it is depends on who opens it.",
    ),
    Rule(
        "onnx.ambiguous",
        _HIGH,
        _FLAGGED,
        "The file repeats what may come once, or names one thing twice: readers differ in what"
        " it means.",
    ),
    Rule(
        "onnx.custom_domain",
        _MEDIUM,
        _FLAGGED,
        "A node's operator comes from a domain that ONNX and onnxruntime do not define: it needs"
        " code from elsewhere.",
    ),
    Rule(
        "onnx.external_data",
        _HIGH,
        _FLAGGED,
        "A tensor's data lies in another file, which nobody judged.",
    ),
    Rule(
        "onnx.function_bomb",
        _HIGH,
        _FLAGGED,
        "A function calls itself, or a few functions unfold into more than a million nodes.",
    ),
    Rule(
        "onnx.function_shadow",
        _HIGH,
        _FLAGGED,
        "A function of the model has the name space of the standard operators.",
    ),
    Rule(
        "onnx.host_operator",
        _CRITICAL,
        _FLAGGED,
        "An operator reaches out of the model: it opens other files or calls code of the host.",
    ),
    Rule(
        "onnx.invalid",
        _MEDIUM,
        _FLAGGED,
        "onnxruntime refuses the model.",
    ),
    Rule(
        "onnx.malformed",
        _MEDIUM,
        _FLAGGED,
        "The file begins as ONNX and breaks off or breaks its format.",
    ),
    Rule(
        "onnx.reader_mismatch",
        _HIGH,
        _FLAGGED,
        "onnxruntime sees other inputs or outputs than the scanner.",
    ),
    Rule(
        "onnx.too_deep",
        _MEDIUM,
        _OPEN,
        "Graphs are nested deeper than the scanner follows.",
    ),
    Rule(
        "onnx.too_large",
        _MEDIUM,
        _OPEN,
        "The file holds more than the scanner's limits, or would unfold to more.",
    ),
    Rule(
        "onnx.unknown_field",
        _MEDIUM,
        _OPEN,
        "The file has fields that no ONNX version known here defines.",
    ),
    Rule(
        "pickle.broken",
        _LOW,
        _OPEN,
        "The pickle breaks off; what came before was looked at.",
    ),
    Rule(
        "pickle.computed_import",
        _CRITICAL,
        _FLAGGED,
        "Loading the pickle imports a name that is put together while it loads.",
    ),
    Rule(
        "pickle.data_only",
        _LOW,
        _OPEN,
        "The pickle imports nothing; the checks that could call it clean are not here yet.",
    ),
    Rule(
        "pickle.extension",
        _CRITICAL,
        _FLAGGED,
        "Loading the pickle calls what the process has registered under a number.",
    ),
    Rule(
        "pickle.import",
        _HIGH,
        _FLAGGED,
        "Loading the pickle imports this name, and so may run it.",
    ),
    Rule(
        "scan.not_evaluated",
        _LOW,
        _OPEN,
        "The file was not judged; the message says why.",
    ),
    Rule(
        "zip.ambiguous",
        _HIGH,
        _FLAGGED,
        "The archive names one member twice, or says two things about one: readers take"
        " different files.",
    ),
    Rule(
        "zip.unsafe_path",
        _HIGH,
        _FLAGGED,
        "A member's name leads out of the folder that the archive is unpacked into.",
    ),
)
RULES = {rule.id: rule for rule in _TABLE}


def finding(
    rule: str, message: str, path: str, offset: int | None = None, member: str | None = None
) -> Finding:
    """What `rule` saw. `message` is one sentence."""
    shown = None if member is None else printable(member, 200)
    return Finding(rule, RULES[rule].severity, message, Location(path, offset, shown))


def verdict(findings: Iterable[Finding]) -> Outcome:
    """The worst that any finding's rule makes of the file; clean where there is none.

    Only a scanner that looked at everything may leave it at none.
    """
    found = [RULES[item.rule].outcome for item in findings]
    return worst(found) if found else Outcome.CLEAN


def printable(text: str, limit: int = 100) -> str:
    """`text` fit for a terminal: an attacker chose it. Nothing that could move a cursor."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return shown + "..." if len(text) > limit else shown
