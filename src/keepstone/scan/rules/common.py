"""Rules that any file may meet."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, LOW, OPEN, Rule

TABLE = (
    Rule(
        "file.polyglot",
        HIGH,
        FLAGGED,
        "The file is valid in two formats at once; which one it is depends on who opens it.",
    ),
    Rule(
        "scan.not_evaluated",
        LOW,
        OPEN,
        "The file was not judged; the message says why.",
    ),
)
