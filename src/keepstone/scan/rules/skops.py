"""Rules for skops."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, OPEN, Rule

TABLE = (
    Rule(
        "skops.dangerous_type",
        CRITICAL,
        FLAGGED,
        "Loading builds what reaches the machine.",
    ),
    Rule(
        "skops.malformed",
        LOW,
        OPEN,
        "The archive's schema is not what skops writes.",
    ),
    Rule(
        "skops.unknown_type",
        HIGH,
        FLAGGED,
        "Loading builds a type, or calls a function, that nothing is known of.",
    ),
)
