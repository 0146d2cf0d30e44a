"""Rules for XML and PMML."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "pmml.function",
        CRITICAL,
        FLAGGED,
        "The model calls a function by the name of a class, which its evaluator loads.",
    ),
    Rule(
        "pmml.unknown",
        MEDIUM,
        OPEN,
        "The model uses a function or a part that PMML does not define.",
    ),
    Rule(
        "xml.bomb",
        HIGH,
        FLAGGED,
        "The document is nested so deep that its readers run out of stack.",
    ),
    Rule(
        "xml.entity",
        HIGH,
        FLAGGED,
        "The document declares entities: they unfold without end, or read other files.",
    ),
    Rule(
        "xml.external",
        HIGH,
        FLAGGED,
        "The document makes its reader open another file or address.",
    ),
    Rule(
        "xml.host_code",
        CRITICAL,
        FLAGGED,
        "The document names classes with which its reader runs code.",
    ),
    Rule(
        "xml.program",
        HIGH,
        FLAGGED,
        "The document holds a script or a program: XSLT, script elements, processing of PHP.",
    ),
    Rule(
        "xml.vocabulary",
        MEDIUM,
        OPEN,
        "Nothing is known of what the document's reader makes of its elements.",
    ),
)
